//! How deep component types nest.
//!
//! Owns: the depth of each type in each scope that is open, where depth counts both types written
//! inside types and types made of earlier types. Knows nothing of validity: what cannot be
//! resolved counts as flat, because the validators have bounds of their own behind this one.

use wasmparser::{
    ComponentAlias, ComponentDefinedType, ComponentOuterAliasKind, ComponentType,
    ComponentTypeDeclaration, ComponentTypeRef, ComponentValType, InstanceTypeDeclaration,
    TypeBounds,
};

/// The depths of the types in scope, innermost scope last.
#[derive(Default)]
pub(crate) struct TypeDepths {
    scopes: Vec<Vec<u32>>,
}

impl TypeDepths {
    pub(crate) fn enter(&mut self) {
        self.scopes.push(Vec::new());
    }

    pub(crate) fn leave(&mut self) {
        self.scopes.pop();
    }

    /// Adds a type to the innermost scope and returns its depth.
    pub(crate) fn define(&mut self, ty: &ComponentType<'_>) -> u32 {
        let depth = self.depth(ty);
        self.push(depth);
        depth
    }

    /// Adds another name of the type `index` of the scope `outer` levels up.
    pub(crate) fn alias(&mut self, outer: u32, index: u32) {
        let depth = self.lookup(outer, index);
        self.push(depth);
    }

    /// Adds a type whose definition is not in sight.
    pub(crate) fn unknown(&mut self) {
        self.push(1);
    }

    fn push(&mut self, depth: u32) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(depth);
        }
    }

    fn lookup(&self, outer: u32, index: u32) -> u32 {
        let scope = self.scopes.len().checked_sub(1 + outer as usize);
        scope.and_then(|scope| self.scopes[scope].get(index as usize)).copied().unwrap_or(1)
    }

    /// The recursion follows what is written inside a type, which the parser bounds.
    fn depth(&mut self, ty: &ComponentType<'_>) -> u32 {
        let inner = match ty {
            ComponentType::Defined(defined) => self.defined(defined),
            ComponentType::Func(function) => {
                self.deepest(function.params.iter().map(|(_, ty)| *ty).chain(function.result))
            }
            ComponentType::Component(declarations) => self.scope(|scope| {
                declarations.iter().map(|one| scope.component_declaration(one)).max()
            }),
            ComponentType::Instance(declarations) => self.scope(|scope| {
                declarations.iter().map(|one| scope.instance_declaration(one)).max()
            }),
            ComponentType::Resource { .. } => 0,
        };
        inner.saturating_add(1)
    }

    fn scope(&mut self, body: impl FnOnce(&mut Self) -> Option<u32>) -> u32 {
        self.enter();
        let deepest = body(self).unwrap_or(0);
        self.leave();
        deepest
    }

    fn deepest(&self, types: impl Iterator<Item = ComponentValType>) -> u32 {
        types
            .map(|ty| match ty {
                ComponentValType::Primitive(_) => 0,
                ComponentValType::Type(index) => self.lookup(0, index),
            })
            .max()
            .unwrap_or(0)
    }

    fn defined(&self, ty: &ComponentDefinedType<'_>) -> u32 {
        use ComponentDefinedType as Type;
        match ty {
            Type::Primitive(_) | Type::Flags(_) | Type::Enum(_) => 0,
            Type::Record(fields) => self.deepest(fields.iter().map(|(_, ty)| *ty)),
            Type::Variant(cases) => self.deepest(cases.iter().filter_map(|case| case.ty)),
            Type::Tuple(types) => self.deepest(types.iter().copied()),
            Type::List(ty) | Type::Option(ty) | Type::FixedLengthList(ty, _) => {
                self.deepest([*ty].into_iter())
            }
            Type::Map(key, value) => self.deepest([*key, *value].into_iter()),
            Type::Result { ok, err } => self.deepest([*ok, *err].into_iter().flatten()),
            Type::Future(ty) | Type::Stream(ty) => self.deepest((*ty).into_iter()),
            Type::Own(index) | Type::Borrow(index) => self.lookup(0, *index),
        }
    }

    fn component_declaration(&mut self, declaration: &ComponentTypeDeclaration<'_>) -> u32 {
        match declaration {
            ComponentTypeDeclaration::Type(ty) => self.define(ty),
            ComponentTypeDeclaration::Alias(alias) => self.alias_declaration(alias),
            ComponentTypeDeclaration::Export { ty, .. } => self.extern_declaration(*ty),
            ComponentTypeDeclaration::Import(import) => self.extern_declaration(import.ty),
            ComponentTypeDeclaration::CoreType(_) => 0,
        }
    }

    fn instance_declaration(&mut self, declaration: &InstanceTypeDeclaration<'_>) -> u32 {
        match declaration {
            InstanceTypeDeclaration::Type(ty) => self.define(ty),
            InstanceTypeDeclaration::Alias(alias) => self.alias_declaration(alias),
            InstanceTypeDeclaration::Export { ty, .. } => self.extern_declaration(*ty),
            InstanceTypeDeclaration::CoreType(_) => 0,
        }
    }

    fn alias_declaration(&mut self, alias: &ComponentAlias<'_>) -> u32 {
        match *alias {
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, count, index } => {
                self.alias(count, index);
                self.lookup(count, index)
            }
            ComponentAlias::InstanceExport {
                kind: wasmparser::ComponentExternalKind::Type,
                ..
            } => {
                self.unknown();
                1
            }
            _ => 0,
        }
    }

    fn extern_declaration(&mut self, ty: ComponentTypeRef) -> u32 {
        match ty {
            ComponentTypeRef::Type(TypeBounds::Eq(index)) => {
                self.alias(0, index);
                self.lookup(0, index)
            }
            ComponentTypeRef::Type(TypeBounds::SubResource) => {
                self.unknown();
                1
            }
            ComponentTypeRef::Instance(index)
            | ComponentTypeRef::Component(index)
            | ComponentTypeRef::Func(index)
            | ComponentTypeRef::Value(ComponentValType::Type(index)) => self.lookup(0, index),
            ComponentTypeRef::Module(_) | ComponentTypeRef::Value(_) => 0,
        }
    }
}

//! Puts the layers around a router, and serves it.
//!
//! Owns: the order of the layers, and the routes that are the edge's own (`/errors/CODE`, `/v1/session`). Knows nothing of:
//! all other routes.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use axum::{Router, extract::DefaultBodyLimit, middleware};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    answers::{HeadBounds, bound_head, panicked, speak_problems},
    body::{Pace, measure},
    config::{ConfigError, EdgeConfig},
    flight::{Flight, bound},
    guard::{Guard, guard, harden},
    listen::{Driver, ListenError, Listener, Served, Socket, Tls, TlsError, bind},
    names,
    pages::{ERROR_PAGE, error_pages},
    shutdown::Shutdown,
    tokens::{
        Exceptions, Failures, Gate, SESSION_PATH, Sessions, TokenError, TokenPolicy, authenticate,
        session_routes,
    },
    trace::observe,
};

/// Why a host could not begin to serve.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// An address cannot be listened at.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Everything between a socket and a handler.
///
/// ```no_run
/// # async fn serve() -> Result<(), hb_edge::EdgeError> {
/// use axum::{Router, routing::get};
/// use hb_edge::{Edge, EdgeConfig, Shutdown};
///
/// let router = Router::new().route("/livez", get(|| async { "alive\n" }));
/// let edge = Edge::new(EdgeConfig::default())?.public("/livez").unbounded("/livez");
/// let bound = edge.bind()?;
/// for address in bound.addresses() {
///     eprintln!("listening at {address}");
/// }
/// bound.serve(router, Shutdown::new()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Edge {
    config: EdgeConfig,
    routes: Exceptions,
    unbounded: Vec<String>,
}

impl Edge {
    /// An edge with this configuration.
    pub fn new(config: EdgeConfig) -> Result<Self, EdgeError> {
        config.check()?;
        let routes = Exceptions {
            public: vec![ERROR_PAGE.to_owned()],
            reading: vec![SESSION_PATH.to_owned()],
        };
        Ok(Self { config, routes, unbounded: Vec::new() })
    }

    /// Lets everybody use the route with this template without a token.
    #[must_use]
    pub fn public(mut self, route: &str) -> Self {
        self.routes.public.push(route.to_owned());
        self
    }

    /// Lets tokens with the scope `read` use the route with this template, whatever the method.
    #[must_use]
    pub fn reading(mut self, route: &str) -> Self {
        self.routes.reading.push(route.to_owned());
        self
    }

    /// Answers the route with this template whatever else is in flight.
    #[must_use]
    pub fn unbounded(mut self, route: &str) -> Self {
        self.unbounded.push(route.to_owned());
        self
    }

    /// Reads certificate and tokens, and opens the sockets. Clients can connect from now on, and wait until
    /// [`Bound::serve`]. Needs a running tokio runtime.
    pub fn bind(self) -> Result<Bound, EdgeError> {
        let Self { config, routes, unbounded } = self;
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let bounds = &config.bounds;
        let sessions = Sessions::new(bounds.sessions, Duration::from_millis(bounds.session_ms));
        let window = Duration::from_millis(bounds.token_failure_window_ms);
        let failures = Failures::new(bounds.token_failures, window);
        let directory =
            config.token_dir.as_deref().filter(|_| config.tokens == TokenPolicy::Required);
        let gate = Arc::new(Gate::new(directory, sessions, failures, routes)?);
        let mut sockets = Vec::new();
        for address in &config.listen {
            sockets.extend(bind(address, &config)?);
        }
        let connections = bounds.connections;
        if sockets.len() > connections {
            let sockets = sockets.len();
            return Err(ConfigError::FewConnections { connections, sockets }.into());
        }
        Ok(Bound { config, tls, gate, unbounded, sockets })
    }
}

/// An edge whose sockets are open.
#[derive(Debug)]
pub struct Bound {
    config: EdgeConfig,
    tls: Option<Tls>,
    gate: Arc<Gate>,
    unbounded: Vec<String>,
    sockets: Vec<Socket>,
}

impl Bound {
    /// Where it listens: with the ports that the system chose.
    pub fn addresses(&self) -> Vec<String> {
        self.sockets.iter().map(Socket::address).collect()
    }

    /// Whether TCP clients have to speak TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves the routes until the shutdown is asked for and everything in flight has ended, or its time is over.
    ///
    /// The router must have neither of the edge's own routes, `/errors/{code}` and `/v1/session`.
    pub async fn serve(self, router: Router, shutdown: Shutdown) -> Served {
        names::describe();
        let router = self.dress(router);
        let bounds = self.config.bounds;
        let driver = Driver { router, bounds, shutdown, cut: Arc::new(AtomicUsize::new(0)) };
        Listener::new(driver, self.tls).serve(self.sockets).await
    }

    /// The router inside all layers. The last one is the outermost.
    fn dress(&self, router: Router) -> Router {
        let bounds = &self.config.bounds;
        let flight = Arc::new(Flight::new(bounds, self.unbounded.clone()));
        let guarded = Arc::new(Guard {
            hosts: self.config.allowed_hosts.clone(),
            origins: self.config.allowed_origins.clone(),
        });
        router
            .merge(error_pages())
            .merge(session_routes(Arc::clone(&self.gate)))
            // After the tokens: a stranger's requests take nobody's place.
            .layer(middleware::from_fn_with_state(flight, bound))
            .layer(middleware::from_fn_with_state(Arc::clone(&self.gate), authenticate))
            .layer(middleware::from_fn_with_state(guarded, guard))
            .layer(middleware::from_fn_with_state(HeadBounds::of(bounds), bound_head))
            .layer(CatchPanicLayer::custom(panicked))
            // Outside of everything that refuses: a body that nobody reads is seen here only.
            .layer(middleware::from_fn_with_state(Pace::of(bounds), measure))
            // The bound above takes its place.
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn(speak_problems))
            .layer(middleware::from_fn(harden))
            .layer(middleware::from_fn(observe))
    }
}

//! The page about the configuration lists what there is.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

const BEGIN: &str = "<!-- keys -->\n";
const END: &str = "<!-- end of keys -->\n";

#[test]
fn the_page_lists_every_key_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", hb_config::markdown());
    if std::env::var_os("HB_WRITE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/configuration.md does not list the keys as they are: write it anew with \
         `HB_WRITE_DOCS=1 cargo test --release -p hb-config --test reference`"
    );
}

#[test]
fn the_example_on_the_page_is_a_configuration() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = fs::read_to_string(path).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, example).unwrap();
    let loaded = hb_config::load_alone(&hb_config::Surroundings::of_process(), &file).unwrap();
    assert_eq!(loaded.config.ceilings.memory_bytes, 4 << 30);
    assert_eq!(loaded.config.serve.tls_key.unwrap(), directory.path().join("host.key"));
}

//! The table of codes and the pages that explain them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use hb_edge::codes::{self, Code};
use serde_json::Value;

use crate::support::Server;

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors")
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let names: BTreeSet<_> = codes::ALL.iter().map(|code| code.name.to_owned()).collect();
    assert_eq!(names.len(), codes::ALL.len(), "no name twice");
    let files = fs::read_dir(pages()).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<_> = files
        .filter(|path| path.extension().is_some_and(|one| one == "md"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, files);
}

#[test]
fn every_page_says_what_the_table_says_and_shows_an_example_that_could_be_answered() {
    for code in codes::ALL {
        let name = code.name;
        let mut lines = code.page.lines();
        assert_eq!(lines.next().unwrap(), format!("# {name}"));
        assert_eq!(lines.nth(1).unwrap(), format!("{} · {}", code.status, code.title), "{name}");
        for section in ["\n## Why it arises\n", "\n## What to do\n", "\n## Example\n", "```http\n"]
        {
            assert!(code.page.contains(section), "{name} lacks {section:?}");
        }
        let example = code.page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
        let example: Value = serde_json::from_str(example).unwrap();
        assert_eq!(example["type"], format!("/errors/{name}"));
        assert_eq!(example["title"], code.title, "{name}");
        assert_eq!(example["status"], code.status, "{name}");
        assert_eq!(example["code"], name);
        assert!(example["detail"].is_string() && example["instance"].is_string(), "{name}");
    }
}

#[test]
fn the_table_is_well_formed() {
    for code in codes::ALL {
        let is_kebab = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        assert!(code.name.bytes().all(is_kebab), "{}", code.name);
        assert!((400..600).contains(&code.status), "{}", code.name);
        assert!(code.title.starts_with(char::is_uppercase), "{}", code.name);
        for text in [code.title, code.when, code.mend] {
            assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", code.name);
        }
    }
}

#[test]
fn a_bare_status_gets_a_code_with_that_status_or_the_general_one_of_its_class() {
    for status in 400..600 {
        let code = Code::for_status(status);
        let general = if status < 500 { "bad-request" } else { "internal" };
        assert!(code.status == status || code.name == general, "{status} became {code:?}");
    }
}

#[tokio::test]
async fn the_host_serves_the_page_that_a_problem_refers_to() {
    let server = Server::plain().await;
    let answer = server.get("/nowhere", "").await;
    let page = answer.is_problem("not-found")["type"].as_str().unwrap().to_owned();
    let page = server.get(&page, "").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(page.text(), codes::NOT_FOUND.page);
    server.get("/errors/no-such-code", "").await.is_problem("not-found");
}

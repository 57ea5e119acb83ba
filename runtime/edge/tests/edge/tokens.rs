//! The life of a token, and of a browser's session.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use hb_edge::{
    Bounds, EdgeConfig,
    tokens::{Scope, TokenPolicy, create, revoke},
};

use crate::support::{Answer, Server, config, soon};

struct House {
    server: Server,
    directory: PathBuf,
    _temp: tempfile::TempDir,
}

impl House {
    async fn open(change: impl FnOnce(&mut Bounds)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("tokens");
        let server = Server::start(EdgeConfig {
            tokens: TokenPolicy::Required,
            token_dir: Some(directory.clone()),
            ..config(change)
        })
        .await;
        Self { server, directory, _temp: temp }
    }

    fn make(&self, name: &str, scope: Scope) -> String {
        token(&self.directory, name, scope, None)
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.server.ask(&self.server.request(method, path, headers, "")).await
    }

    /// Asks until the host has looked at its tokens again.
    async fn until(&self, headers: &str, status: u16) -> Answer {
        let asking = async {
            loop {
                let answer = self.ask("GET", "/whoami", headers).await;
                if answer.status == status {
                    return answer;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        soon(asking).await
    }
}

/// The header of a new token.
fn token(directory: &Path, name: &str, scope: Scope, expires: Option<SystemTime>) -> String {
    let made = create(directory, name, scope, expires).unwrap();
    format!("Authorization: Bearer {}\r\n", made.token.expose())
}

#[tokio::test]
async fn without_a_token_only_public_routes_are_answered() {
    let house = House::open(|_| {}).await;
    house.server.is_alive().await;
    assert_eq!(house.ask("GET", "/errors/unauthenticated", "").await.status, 200);
    for path in ["/whoami", "/nowhere", "/v1/session"] {
        let answer = house.ask("GET", path, "").await;
        answer.is_problem("unauthenticated");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"hackbrain\"");
    }
}

#[tokio::test]
async fn a_token_is_good_from_when_it_is_made_until_it_is_revoked() {
    let house = House::open(|bounds| bounds.token_failures = 1_000_000).await;
    let ci = house.make("ci", Scope::Submit);
    let answer = house.ask("GET", "/whoami", &ci).await;
    assert_eq!(answer.json()["name"], "ci");
    assert_eq!(answer.json()["scope"], "submit");
    let other = house.make("other", Scope::Read);
    assert_eq!(house.ask("GET", "/whoami", &other).await.status, 200);
    revoke(&house.directory, "ci").unwrap();
    let answer = house.until(&ci, 401).await;
    answer.is_problem("unauthenticated");
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    assert_eq!(house.ask("GET", "/whoami", &other).await.status, 200);
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let house = House::open(|_| {}).await;
    let now = SystemTime::now();
    let expired = token(&house.directory, "old", Scope::Read, Some(now));
    let later = now + std::time::Duration::from_hours(1);
    let good = token(&house.directory, "new", Scope::Read, Some(later));
    assert_eq!(house.ask("GET", "/whoami", &good).await.status, 200);
    house.ask("GET", "/whoami", &expired).await.is_problem("unauthenticated");
}

#[tokio::test]
async fn scopes_say_what_a_token_may_do() {
    let house = House::open(|_| {}).await;
    let read = house.make("r", Scope::Read);
    let submit = house.make("s", Scope::Submit);
    let admin = house.make("a", Scope::Admin);
    assert_eq!(house.ask("GET", "/whoami", &admin).await.status, 200);
    let refused = house.ask("POST", "/whoami", &read).await;
    assert_eq!(refused.is_problem("forbidden")["scope"], "submit");
    assert_eq!(house.ask("POST", "/search?limit=3", &read).await.status, 200, "it only reads");
    assert_eq!(house.ask("POST", "/whoami", &submit).await.status, 200);
    let refused = house.ask("GET", "/admin", &submit).await;
    assert_eq!(refused.is_problem("forbidden")["scope"], "admin");
    assert_eq!(house.ask("GET", "/admin", &admin).await.text(), "admin");
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down_and_good_ones_are_not() {
    let house = House::open(|bounds| bounds.token_failures = 3).await;
    let good = house.make("good", Scope::Read);
    let good_value = good.trim_start_matches("Authorization: Bearer ").trim_end();
    assert_eq!(house.ask("GET", "/whoami", &good).await.status, 200);
    let other = if &good_value[4..5] == "A" { "B" } else { "A" };
    let mut answers = Vec::new();
    for wrong in [
        format!("Bearer hbt_{other}{}", &good_value[5..]),
        format!("Bearer {}", &good_value[..46]),
        "Bearer".to_owned(),
        format!("Basic {good_value}"),
        good_value.to_owned(),
    ] {
        let answer = house.ask("GET", "/whoami", &format!("Authorization: {wrong}\r\n")).await;
        assert!(!answer.text().contains(&good_value[10..40]), "no token is echoed");
        answers.push(answer);
    }
    assert_eq!(answers.iter().map(|one| one.status).collect::<Vec<_>>(), [401, 401, 401, 429, 429]);
    answers[4].is_problem("too-many-requests");
    assert!(answers[4].header("retry-after").parse::<u32>().unwrap() <= 60);
    assert_eq!(house.ask("GET", "/whoami", &good).await.status, 200);
}

#[tokio::test]
async fn a_token_in_the_address_or_twice_is_none() {
    let house = House::open(|_| {}).await;
    let good = house.make("good", Scope::Read);
    assert_eq!(house.ask("GET", "/whoami", &good).await.status, 200);
    let value = good.trim_start_matches("Authorization: Bearer ").trim_end();
    let path = format!("/whoami?access_token={value}");
    house.ask("GET", &path, "").await.is_problem("unauthenticated");
    house.ask("GET", "/whoami", &format!("{good}{good}")).await.is_problem("unauthenticated");
}

/// Signs in, and returns the header that the browser sends from then on.
async fn sign_in(house: &House, token: &str) -> String {
    let answer = house.ask("POST", "/v1/session", token).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.is_hardened();
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    format!("Cookie: {}\r\n", cookie.split(';').next().unwrap())
}

#[tokio::test]
async fn a_browser_exchanges_a_token_for_a_cookie_and_signs_out() {
    let house = House::open(|_| {}).await;
    let token = house.make("me", Scope::Submit);
    assert_eq!(house.ask("GET", "/whoami", &token).await.status, 200);
    let cookie = sign_in(&house, &token).await;
    let look = house.ask("GET", "/v1/session", &cookie).await.json();
    assert_eq!((&look["name"], &look["scope"]), (&"me".into(), &"submit".into()));
    let own = format!("{cookie}Origin: http://{}\r\n", house.server.addresses[0]);
    assert_eq!(house.ask("POST", "/whoami", &own).await.status, 200);
    let out = house.ask("DELETE", "/v1/session", &own).await;
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    house.ask("GET", "/whoami", &cookie).await.is_problem("unauthenticated");
}

#[tokio::test]
async fn a_session_changes_nothing_unless_our_own_page_asks() {
    let house = House::open(|_| {}).await;
    let token = house.make("me", Scope::Submit);
    assert_eq!(house.ask("GET", "/whoami", &token).await.status, 200);
    let cookie = sign_in(&house, &token).await;
    house.ask("POST", "/whoami", &cookie).await.is_problem("origin-not-allowed");
    let foreign = format!("{cookie}Origin: http://localhost:3000\r\n");
    house.ask("POST", "/whoami", &foreign).await.is_problem("origin-not-allowed");
    let own = format!("{cookie}Sec-Fetch-Site: same-origin\r\n");
    assert_eq!(house.ask("POST", "/whoami", &own).await.status, 200);
    house.ask("POST", "/v1/session", "").await.is_problem("unauthenticated");
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let house = House::open(|bounds| bounds.token_failures = 1_000_000).await;
    let token = house.make("me", Scope::Read);
    assert_eq!(house.ask("GET", "/whoami", &token).await.status, 200);
    let cookie = sign_in(&house, &token).await;
    assert_eq!(house.ask("GET", "/whoami", &cookie).await.status, 200);
    revoke(&house.directory, "me").unwrap();
    house.until(&cookie, 401).await.is_problem("unauthenticated");
}

#[tokio::test]
async fn where_no_token_is_needed_everybody_is_the_local_user() {
    let server = Server::plain().await;
    let answer = server.get("/whoami", "Authorization: Bearer nonsense\r\n").await.json();
    assert_eq!((&answer["name"], &answer["scope"]), (&"local".into(), &"admin".into()));
    let session = server.ask(&server.request("POST", "/v1/session", "", "")).await;
    assert_eq!(session.status, 200);
    assert!(!session.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn a_directory_that_others_may_write_lets_nobody_in() {
    use std::os::unix::fs::PermissionsExt;

    let house = House::open(|_| {}).await;
    let token = house.make("me", Scope::Read);
    assert_eq!(house.ask("GET", "/whoami", &token).await.status, 200);
    std::fs::set_permissions(&house.directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    let answer = house.until(&token, 503).await;
    answer.is_problem("not-ready");
    assert_eq!(answer.header("retry-after"), "5");
    std::fs::set_permissions(&house.directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    house.until(&token, 200).await;
}

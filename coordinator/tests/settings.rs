//! Install settings that nobody should send: malformed, huge, deeply nested, or small and made to grow. Each is refused soon, with the place of the mistake, and
//! without more memory than the text itself is worth.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::House;
use leaseboot_protocol::leases::Refusal;
use leaseboot_tests::bench::process as usage;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longer than any of these takes in an unoptimised build.
const SOON: Duration = Duration::from_secs(5);
/// What all of them together may add to this process, which is client and Lease Manager at once, in MB (10^6 bytes).
const MOST_MEMORY: f64 = 100.0;

/// Good settings with this text in this language.
fn settings(installer: &str, text: &str) -> Value {
    let mut settings = serde_json::to_value(house::settings()).unwrap();
    settings["installer"] = json!({ "kind": installer });
    settings["kickstart"] = text.into();
    settings
}

fn kickstart(text: &str) -> String {
    let mut settings = settings("kickstart", text);
    settings.as_object_mut().unwrap().remove("installer");
    settings.to_string()
}

/// What is sent, the status that it must get, and what the answer must say of the place.
fn bodies() -> Vec<(&'static str, String, u16, &'static str)> {
    let good = kickstart(house::KICKSTART);
    let with = |name: &str, value: Value| {
        let mut settings: Value = serde_json::from_str(&good).unwrap();
        settings[name] = value;
        settings.to_string()
    };
    let marks: String = (0..20_000)
        .map(|number| format!("@sealed:m{number}@\n"))
        .collect();
    let laughs = "#cloud-config\nautoinstall:\n  version: 1\n  a: &a [x, x]\n  b: [*a, *a]\n";
    vec![
        (
            "a comma too many",
            good.replacen(',', ",,", 1),
            400,
            "line 1 column",
        ),
        (
            "half of it",
            good[..good.len() / 2].to_owned(),
            400,
            "line 1 column",
        ),
        (
            "lists in lists",
            format!("{{\"profile\": {}", "[".repeat(500_000)),
            422,
            "line 1 column",
        ),
        (
            "a word for a number",
            with("min_memory_mib", json!("x")),
            422,
            "min_memory_mib",
        ),
        (
            "an address that is none",
            with("tunnel", json!({"address": "10.99.0.10/99"})),
            422,
            "tunnel.address",
        ),
        (
            "more than a mebibyte",
            with("profile", json!("x".repeat(1 << 20))),
            413,
            "",
        ),
        (
            "a name of half a mebibyte",
            with("kickstart_origin", json!("x".repeat(500_000))),
            422,
            "kickstart_origin",
        ),
        (
            "a long line",
            kickstart(&format!("text\n#{}\n", "x".repeat(70_000))),
            422,
            "web.ks:2",
        ),
        ("many lines", kickstart(&"#\n".repeat(21_000)), 422, "21000 lines"),
        ("marks that nobody sealed", kickstart(&marks), 422, "web.ks:1"),
        (
            "commands that nobody knows",
            kickstart(&"text\nfrobnicate\n".repeat(9_000)),
            422,
            "web.ks:2",
        ),
        (
            "a section without an end",
            kickstart("text\n%packages\nnginx\n"),
            422,
            "web.ks:2",
        ),
        (
            "an alias",
            settings("autoinstall", laughs).to_string(),
            422,
            "web.ks:4",
        ),
        (
            "flow in flow",
            settings(
                "autoinstall",
                &format!("#cloud-config\nautoinstall:\n  a: {}", "[".repeat(60_000)),
            )
            .to_string(),
            422,
            "web.ks:3",
        ),
        (
            "block in block",
            settings("autoinstall", &nested(300)).to_string(),
            422,
            "web.ks:3",
        ),
        (
            "many nodes",
            settings(
                "autoinstall",
                &format!("#cloud-config\nautoinstall:\n  a: [{}]", "x,".repeat(30_000)),
            )
            .to_string(),
            422,
            "web.ks:3",
        ),
        (
            "no answer",
            settings("preseed", "d-i x/y string\nd-i\n").to_string(),
            422,
            "web.ks:2",
        ),
    ]
}

/// Mappings in mappings, each on its line.
fn nested(depth: usize) -> String {
    let lines = (0..depth).map(|level| format!("{}a:\n", " ".repeat(level)));
    format!(
        "#cloud-config\nautoinstall:\n{}",
        lines.map(|line| format!(" {line}")).collect::<String>()
    )
}

/// What the answer says: the words for people, and each place in the enterprise's text.
fn told(text: &str) -> String {
    let refusal: Refusal = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut told = refusal.to_string();
    if let Refusal::Merge { problems } = &refusal {
        for line in problems.iter().filter_map(|problem| problem.enterprise.as_ref()) {
            told += &format!("\n{}:{}", line.origin, line.number);
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_are_refused_soon_with_their_place_and_in_bounded_memory() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    let url = format!("{}/v1/leases/{lease}/settings", tenant.base);
    let send = async |body: String| {
        let request = tenant.client.put(&url).header("content-type", "application/json");
        request.body(body).send().await
    };
    assert_eq!(
        send(kickstart(house::KICKSTART)).await.unwrap().status(),
        StatusCode::OK
    );
    let pid = std::process::id();
    let cases = bodies();
    usage::forget_peak(pid).unwrap();
    let before = usage::memory(pid).unwrap();
    for (what, body, status, place) in cases {
        let begun = Instant::now();
        let answer = match send(body).await {
            Ok(answer) => answer,
            // Nobody reads on to the end of what is too long, so its answer may be lost to the broken connection.
            Err(_) if status == 413 => continue,
            Err(error) => panic!("{what}: {error}"),
        };
        assert_eq!(answer.status().as_u16(), status, "{what}");
        let text = answer.text().await.unwrap();
        assert!(begun.elapsed() < SOON, "{what} took {:?}", begun.elapsed());
        assert!(
            text.len() < 256 << 10,
            "{what}: the answer has {} bytes",
            text.len()
        );
        let told = told(&text);
        assert!(told.contains(place), "{what}: {place:?} is not in {told}");
    }
    let added = usage::peak_memory(pid).unwrap() - before;
    assert!(added < MOST_MEMORY, "{added:.0} MB");
}

use super::*;
use std::path::PathBuf;

fn read(text: &str) -> Result<Policies, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("profiles/web")).unwrap();
    let around = Surroundings {
        folder: folder.path(),
        lenders: &["north".to_owned(), "south".to_owned()],
    };
    let source = Source::of_text(&PathBuf::from("policies.toml"), text);
    Policies::read(&source, &around).map_err(|error| error.to_string())
}

const WHOLE: &str = r#"
[limits]
servers = 6

[[policy]]
name = "shop"
event = ["Load", "Latency"]
labels = { service = "shop", severity = ["page", "critical"] }
profile = "web"
lenders = ["south", "north"]
servers = 2
limit = 4
for = "90s"
quiet = "15m"
cooldown = "4m"
expire = "1d"

[policy.drain]
command = ["/usr/local/bin/drain", "shop"]
deadline = "5m"
"#;

#[test]
fn a_policy_says_all_that_there_is_to_say() {
    let policies = read(WHOLE).unwrap();
    let policy = policies.get("shop").unwrap();
    assert_eq!((policies.limit, policy.servers, policy.limit), (Some(6), 2, 4));
    assert_eq!(policy.lenders, ["south", "north"]);
    let seconds = [policy.stands, policy.quiet, policy.cooldown].map(|time| time.as_secs());
    assert_eq!(
        (seconds, policy.expire),
        ([90, 900, 240], Some(Duration::from_secs(86_400)))
    );
    assert_eq!(
        policy.drain.as_ref().unwrap().command,
        ["/usr/local/bin/drain", "shop"]
    );
    assert_eq!(
        policy.on.to_string(),
        "Load or Latency{service=\"shop\", severity=\"page|critical\"}"
    );
}

#[test]
fn what_is_left_out_has_usual_values() {
    let policies = read("[[policy]]\nname = \"a\"\nevent = \"Load\"\nprofile = \"web\"\n").unwrap();
    let policy = &policies.list[0];
    assert_eq!((policy.servers, policy.limit, policies.limit), (1, 1, None));
    let seconds = [policy.stands, policy.quiet, policy.cooldown].map(|time| time.as_secs());
    assert_eq!(seconds, [120, 600, 300]);
}

#[test]
fn a_mistake_is_named_with_its_line() {
    for (cut, by, complaint) in [
        (
            "servers = 2",
            "serverz = 2",
            "policies.toml:11: unknown field `serverz`",
        ),
        (
            "\"web\"",
            "\"wed\"",
            "policies.toml:9: profile \"wed\" is not there",
        ),
        (
            "\"south\", ",
            "\"east\", ",
            "policies.toml:10: po.toml has no lender \"east\"; it has: north, south",
        ),
        ("servers = 2", "servers = 0", "policies.toml:11: servers is 0"),
        (
            "limit = 4",
            "limit = 1",
            "policies.toml:12: limit 1 is less than the 2 servers",
        ),
        (
            "\"90s\"",
            "\"90\"",
            "policies.toml:13: \"90\" is not a length of time",
        ),
        ("\"15m\"", "\"8d\"", "policies.toml:14: quiet is longer than 7d"),
        (
            "\"shop\"\nevent",
            "\"sh op\"\nevent",
            "policies.toml:6: name \"sh op\"",
        ),
        (
            "[\"/usr/local/bin/drain\", \"shop\"]",
            "[]",
            "policies.toml:19: command is empty",
        ),
    ] {
        let error = read(&WHOLE.replace(cut, by)).unwrap_err();
        assert!(error.starts_with(complaint), "{error}");
    }
    let twice = format!("{WHOLE}\n[[policy]]\nname = \"shop\"\nevent = \"x\"\nprofile = \"web\"\n");
    let error = read(&twice).unwrap_err();
    assert!(
        error.starts_with("policies.toml:23: there is another policy \"shop\""),
        "{error}"
    );
}

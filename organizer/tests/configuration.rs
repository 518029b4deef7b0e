//! Mistakes in configuration files: each is told with file, line, value and remedy.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "configuration/packages.rs"]
mod packages;

use leaseboot_po::config::{PoConfig, Profile};
use leaseboot_po::error_chain;
use leaseboot_tunnel::PlaneChoice;
use proptest::prelude::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const PO: &str = r#"[gateway]
endpoint = "198.51.100.2:51820"
tunnel = "10.99.0.1/24"
allowed = ["172.20.0.0/24"]

[lender]
url = "https://10.10.0.1:8443"
ca = "lender/lm-ca.pem"
certificate = "lender/client.pem"
key = "lender/client.key"
"#;

const PROFILE: &str = r#"image = "debian"
kickstart = "web.ks"
hostname = "web-{n}"

[requirements]
min_cores = 2
disks = [{ min_size_gib = 4 }]

[sealed]
root = "root.sealed"
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    };
    write("po.toml", PO);
    write("profiles/web/profile.toml", PROFILE);
    write(
        "profiles/web/web.ks",
        "lang C\nrootpw --iscrypted @sealed:root@\n",
    );
    write("profiles/web/root.sealed", "$6$x\n");
    write(
        "images/debian/image.toml",
        "command_line = \"quiet\"\nmin_memory_mib = 512\n",
    );
    write("images/debian/vmlinuz", "kernel");
    write("images/debian/initrd.img", "initrd");
    folder
}

fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {file}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

/// The complaint about a folder in which `from` in `file` became `to`, without the folder's own name.
fn complaint(file: &str, from: &str, to: &str) -> String {
    let folder = folder();
    edit(folder.path(), file, from, to);
    refusal(folder.path())
}

fn refusal(folder: &Path) -> String {
    let po = PoConfig::load(&folder.join("po.toml")).map(|_| ());
    let error = po
        .and_then(|()| Profile::load(folder, "web").map(|_| ()))
        .expect_err("it is refused");
    error_chain(&error).replace(&format!("{}/", folder.display()), "")
}

#[test]
fn what_init_and_people_write_is_read() {
    let folder = folder();
    let po = PoConfig::load(&folder.path().join("po.toml")).unwrap();
    assert_eq!(po.gateway.service().to_string(), "10.99.0.1:80");
    assert_eq!(po.gateway.plane, PlaneChoice::Auto);
    let pool: Vec<_> = po.gateway.pool().collect();
    assert_eq!((pool.len(), pool[0].to_string()), (245, "10.99.0.10".to_owned()));
    let profile = Profile::load(folder.path(), "web").unwrap();
    assert_eq!(profile.kickstart_origin, "profiles/web/web.ks");
    assert_eq!(
        profile.image.measure().unwrap().installer().unwrap().kernel.size,
        6
    );
}

#[test]
fn mistakes_are_told_with_file_line_and_value() {
    let profile = "profiles/web/profile.toml";
    for (file, from, to, start, words) in [
        (
            "po.toml",
            "allowed",
            "alowed",
            "po.toml:4: ",
            "unknown field `alowed`",
        ),
        (
            "po.toml",
            "10.99.0.1/24",
            "10.99.0.0/24",
            "po.toml:3: ",
            "not a host's address",
        ),
        (
            "po.toml",
            "10.99.0.1/24",
            "10.99.0.1/33",
            "po.toml:3: ",
            "tunnel = \"10.99.0.1/33\"",
        ),
        (
            "po.toml",
            "https://10",
            "http://10",
            "po.toml:7: ",
            "does not begin with https://",
        ),
        (
            "po.toml",
            "allowed",
            "first_server = \"10.98.0.1\"\nallowed",
            "po.toml:4: ",
            "10.98.0.1",
        ),
        (
            "po.toml",
            "allowed",
            "plane = \"fpga\"\nallowed",
            "po.toml:4: ",
            "unknown variant `fpga`, expected one of `auto`, `kernel`, `user`",
        ),
        (
            "po.toml",
            "allowed",
            "mtu = 900\nallowed",
            "po.toml:4: ",
            "mtu 900",
        ),
        (
            "po.toml",
            "allowed",
            "interface = \"a-name-that-is-too-long\"\nallowed",
            "po.toml:4: ",
            "1 to 15",
        ),
        ("po.toml", "[lender]", "[lendr]", "po.toml:6: ", "lendr"),
        (
            "po.toml",
            "198.51.100.2:51820",
            "0.0.0.0:51820",
            "po.toml:2: ",
            "cannot be dialled",
        ),
        (
            "po.toml",
            "198.51.100.2:51820",
            "198.51.100.2:0",
            "po.toml:2: ",
            "cannot be dialled",
        ),
        (
            "po.toml",
            "https://10.10.0.1:8443",
            "https://:8443",
            "po.toml:7: ",
            "has no host",
        ),
        (
            profile,
            "\"debian\"",
            "\"fedora\"",
            "profiles/web/profile.toml:1: ",
            "make the folder images/fedora",
        ),
        (
            profile,
            "\"debian\"",
            "\"../x\"",
            "profiles/web/profile.toml:1: ",
            "\"../x\" is not there",
        ),
        (
            profile,
            "web.ks",
            "www.ks",
            "profiles/web/profile.toml:2: ",
            "profiles/web/www.ks",
        ),
        (
            profile,
            "web-{n}",
            "Web_{n}",
            "profiles/web/profile.toml:3: ",
            "\"Web_{n}\"",
        ),
        (
            profile,
            "min_cores",
            "cores",
            "profiles/web/profile.toml:6: ",
            "unknown field `cores`",
        ),
        (
            profile,
            "root.sealed",
            "no.sealed",
            "profiles/web/profile.toml:10: ",
            "No such file",
        ),
        (
            profile,
            "root =",
            "toor =",
            "profiles/web/web.ks:2: ",
            "@sealed:root@ has no value",
        ),
        (
            "profiles/web/web.ks",
            "lang C",
            "%post",
            "profiles/web/web.ks:1: ",
            "not closed",
        ),
        (
            "profiles/web/web.ks",
            "@sealed:root@",
            "@sealed:Root@",
            "profiles/web/web.ks:2: ",
            "@sealed:name@",
        ),
        (
            "profiles/web/web.ks",
            "@sealed:root@",
            "x",
            "profiles/web/profile.toml:10: ",
            "no mark @sealed:root@",
        ),
        (
            "images/debian/image.toml",
            "quiet",
            "inst.ks=x",
            "images/debian/image.toml:1: ",
            "adds itself",
        ),
        (
            "images/debian/image.toml",
            "min_memory_mib",
            "memory",
            "images/debian/image.toml:2: ",
            "memory",
        ),
    ] {
        let complaint = complaint(file, from, to);
        assert!(
            complaint.starts_with(start) && complaint.contains(words),
            "{from} → {to}: {complaint}"
        );
        assert!(!complaint.contains('\n'), "one line: {complaint}");
    }
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    for (missing, words) in [
        (
            "po.toml",
            "po.toml: cannot be read; make one with `leaseboot-po init`",
        ),
        (
            "images/debian/vmlinuz",
            "there is no file images/debian/vmlinuz; put it there",
        ),
        (
            "images/debian/image.toml",
            "an image is a folder with image.toml, vmlinuz and initrd.img",
        ),
        (
            "profiles/web/profile.toml",
            "a profile is a folder with profile.toml",
        ),
        ("profiles/web/web.ks", "put the file at profiles/web/web.ks"),
    ] {
        let folder = folder();
        fs::remove_file(folder.path().join(missing)).unwrap();
        let refusal = refusal(folder.path());
        assert!(refusal.contains(words), "{missing}: {refusal}");
    }
    let folder = folder();
    let unknown = Profile::load(folder.path(), "db").unwrap_err().to_string();
    assert!(unknown.contains("no profile \"db\"; there are: web"), "{unknown}");
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let folder = folder();
    let path = folder.path().join("profiles/web/root.sealed");
    fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
    let refusal = refusal(folder.path());
    assert!(
        refusal.starts_with("profiles/web/profile.toml:10: ") && refusal.contains("chmod 600"),
        "{refusal}"
    );
    assert!(!refusal.contains("$6$"), "{refusal}");
}

#[test]
fn text_in_another_encoding_is_told_with_its_line() {
    for file in [
        "po.toml",
        "profiles/web/profile.toml",
        "images/debian/image.toml",
        "profiles/web/web.ks",
    ] {
        let folder = folder();
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"# Gr\xfc\xdfe\n");
        let line = bytes.iter().filter(|byte| **byte == b'\n').count();
        fs::write(&path, bytes).unwrap();
        let refusal = refusal(folder.path());
        assert!(
            refusal.starts_with(&format!("{file}:{line}: is not UTF-8")),
            "{refusal}"
        );
    }
}

/// A file that people write, and a way to spoil it.
#[derive(Clone, Debug)]
struct Spoiling {
    file: &'static str,
    at: prop::sample::Index,
    length: usize,
    instead: String,
}

fn spoilings() -> impl Strategy<Value = Spoiling> {
    let files = [
        "po.toml",
        "profiles/web/profile.toml",
        "images/debian/image.toml",
        "profiles/web/web.ks",
    ];
    let instead = prop_oneof![
        "[ -~\n]{0,6}".prop_map(|text| text),
        prop::sample::select(vec![
            "",
            "\"",
            "[",
            "]",
            "=",
            "\n\n",
            "@sealed:",
            "\0",
            "\u{fc}",
            "-1",
            "99999999999999999999",
            "true"
        ])
        .prop_map(str::to_owned),
    ];
    (
        prop::sample::select(files.to_vec()),
        any::<prop::sample::Index>(),
        0usize..12,
        instead,
    )
        .prop_map(|(file, at, length, instead)| Spoiling {
            file,
            at,
            length,
            instead,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a slip of the hand makes of a file: it is read, or the complaint is one line that names a file, and a line that the file has.
    #[test]
    fn a_slip_of_the_hand_is_told_with_file_and_line(spoiling in spoilings()) {
        let folder = folder();
        let path = folder.path().join(spoiling.file);
        let mut text = fs::read_to_string(&path).unwrap();
        let at = spoiling.at.index(text.len());
        let end = (at + spoiling.length).min(text.len());
        text.replace_range(at..end, &spoiling.instead);
        fs::write(&path, &text).unwrap();
        let loaded = PoConfig::load(&folder.path().join("po.toml")).map(|_| ());
        if let Err(error) = loaded.and_then(|()| Profile::load(folder.path(), "web").map(|_| ())) {
            let words = error_chain(&error);
            prop_assert!(!words.contains('\n'), "one line: {words}");
            prop_assert!(!words.contains("$6$x"), "the secret is told: {words}");
            let line = error.line;
            prop_assert!(line.is_some() || error.file.ends_with("image.toml"), "no line: {words}");
            let lines = fs::read_to_string(&error.file).unwrap().split('\n').count();
            prop_assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "a line that is not there: {words}");
        }
    }
}

#[test]
fn several_lenders_need_names_and_one_needs_none() {
    let lender = |name: &str| {
        format!("[[lender]]\n{name}url = \"https://a\"\nca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n")
    };
    let head = "[gateway]\nendpoint = \"198.51.100.2:51820\"\ntunnel = \"127.0.0.1/24\"\n";
    let read = |lenders: &[&str]| {
        let text = head.to_owned() + &lenders.iter().map(|name| lender(name)).collect::<String>();
        PoConfig::check(Path::new("po.toml"), &text)
    };
    assert_eq!(read(&[""]).unwrap().lender_names(), ["lender"]);
    assert_eq!(
        read(&["name = \"n\"\n", "name = \"s\"\n"])
            .unwrap()
            .lender_names(),
        ["n", "s"]
    );
    let complaint = |lenders: &[&str]| read(lenders).unwrap_err().to_string();
    assert!(
        complaint(&["name = \"n\"\n", ""]).starts_with("po.toml:11: a lender has no name"),
        "{}",
        complaint(&["name = \"n\"\n", ""])
    );
    assert!(
        complaint(&["name = \"n\"\n", "name = \"n\"\n"]).starts_with("po.toml:11: there is another lender")
    );
    assert!(complaint(&["name = \"n\"\n", "nom = \"s\"\n"]).starts_with("po.toml:11: unknown field `nom`"));
}

//! What reads bytes of strangers, for `cargo xtask fuzz` and for the unit test below, which feeds it with its corpus and with what becomes of that by
//! small changes.

use crate::announce::dns;
use crate::borrowing::merged::{check, check_outline};
use crate::events::{alertmanager, cloudevents};
use crate::images::examine::archive::Budget;
use crate::images::examine::{initrd, kernel, ways};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::settings::InstallSettings;
use leaseboot_protocol::timestamp::Timestamp;

/// A reader, with its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every reader, by the name of its folder in `tests/fuzz/corpus`.
pub const TARGETS: [Target; 5] = [
    ("dns_answer", dns_answer),
    ("events", events),
    ("initrd", initrd),
    ("kernel", kernel),
    ("merged", merged),
];

/// Feeds the target of this name.
///
/// # Panics
/// When there is none, or it panics.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.expect("a target of this name");
    target(bytes);
}

/// A message of whoever may raise events, as Alertmanager's and as CloudEvents of each kind. Read twice, it speaks of the same things.
pub fn events(bytes: &[u8]) {
    let headers = |kind: &str| {
        let mut headers = HeaderMap::new();
        let pairs = [("content-type", kind), ("ce-specversion", "1.0"), ("ce-id", "1")];
        for (name, value) in pairs.into_iter().chain([("ce-source", "/a"), ("ce-type", "b")]) {
            headers.insert(
                HeaderName::try_from(name).expect("a header's name"),
                HeaderValue::from_str(value).expect("a header's value"),
            );
        }
        headers
    };
    let now = Timestamp(1);
    assert_eq!(alertmanager::read(bytes, now), alertmanager::read(bytes, now));
    for kind in [
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/json",
    ] {
        let (first, again) = (
            cloudevents::read(&headers(kind), bytes, now),
            cloudevents::read(&headers(kind), bytes, now),
        );
        assert_eq!(first, again);
    }
}

/// Settings of which only text, language and name matter here.
const SETTINGS: &str = include_str!("../../protocol/samples/settings.json");

/// The enterprise's text and what the lender made of it, with a zero byte between them, in each language.
pub fn merged(bytes: &[u8]) {
    let Ok(texts) = std::str::from_utf8(bytes) else {
        return;
    };
    let (ours, theirs) = texts.split_once('\0').unwrap_or((texts, texts));
    for installer in [
        Installer::default(),
        Installer::Preseed {},
        Installer::Autoinstall {},
        Installer::Fai {},
    ] {
        let mut settings: InstallSettings = serde_json::from_str(SETTINGS).expect("good settings");
        settings.installer = installer;
        settings.kickstart = ours.to_owned();
        let added = check(&settings, theirs);
        // The other languages are not whole before the lender has added the network, or its part of the last command.
        let whole =
            matches!(installer, Installer::Kickstart { .. }) && check_outline(installer, ours).is_ok();
        if whole && ours == theirs {
            assert_eq!(added, Ok(0), "a text that nobody changed");
        }
    }
}

/// A DNS server's answer to an update: nobody but who has the key is believed.
pub fn dns_answer(bytes: &[u8]) {
    assert!(dns::believe(bytes).is_err(), "believed without a signature");
}

/// An initrd: what is found of it is bounded by what was allowed.
pub fn initrd(bytes: &[u8]) {
    let budget = Budget {
        entries: 1000,
        bytes: 16 << 20,
    };
    if let Ok(found) = initrd::read(bytes, "/init", budget) {
        let entries: u64 = found.parts.iter().map(|part| part.entries).sum();
        assert!(entries <= budget.entries && found.unpacked <= budget.bytes);
        assert!(found.modules.len() <= 16);
    }
}

/// The beginning of a kernel, and what a program for people says of it.
pub fn kernel(bytes: &[u8]) {
    let Ok(kernel) = kernel::read(bytes) else {
        return;
    };
    assert!(
        kernel
            .to_string()
            .bytes()
            .all(|byte| (b' '..0x7f).contains(&byte))
    );
    let nothing = initrd::Initrd {
        parts: Vec::new(),
        unpacked: 0,
        has_init: false,
        kind: initrd::InstallerKind::Other,
        modules: std::collections::BTreeMap::new(),
    };
    let ways = ways::find(&kernel, &nothing, "quiet", "/init");
    // Nothing that asks anything of the kernel; and there is no `/init` to hand over to.
    assert!(matches!(ways.plane, None | Some(ways::DataPlane::Proxy)) && !ways.obstacles.is_empty());
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_reader_is_broken_by_its_corpus_or_by_small_changes_to_it() {
        for (name, target) in super::TARGETS {
            leaseboot_tests::fuzz::replay(name, target);
        }
    }
}

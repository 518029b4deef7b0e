//! What Anaconda and dracut make of an image's command line, by release: before a server is asked for, not by an installer that stands still.
//!
//! An installer that does not know a word says nothing, or a line on a console that nobody reads, and waits for somebody to answer its questions. So the words
//! are looked at here, and sorted in two:
//!
//! | verdict | for | is told by |
//! |---|---|---|
//! | [`Verdict::Refused`] | words that are known to do nothing, or to fail, in that release | reading the profile, as an error |
//! | [`Verdict::Doubtful`] | words of which nothing is known, and places that a lent server cannot reach | `leaseboot-po doctor`, as a warning: releases add words |
//!
//! Sources, and the same rules in words: docs/installers.md.

use leaseboot_protocol::installer::{Family, KickstartSyntax};
use std::fmt;
use std::net::IpAddr;

/// Whether a word can stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does not do what it was written for.
    Refused,
    /// It may.
    Doubtful,
}

/// A word that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The word, as it is written.
    pub word: String,
    /// Whether it can stay.
    pub verdict: Verdict,
    /// What is wrong with it, and what to do.
    pub why: String,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.word, self.why)
    }
}

/// Names that Anaconda took without its prefix, and what they are called with it. Those that the kernel or dracut know too (`debug`, `proxy`, `selinux`,
/// `loglevel`) are theirs.
const BARE: [(&str, &str); 28] = [
    ("ks", "inst.ks"),
    ("ksdevice", "BOOTIF= or ip="),
    ("kssendmac", "inst.ks.sendmac"),
    ("kssendsn", "inst.ks.sendsn"),
    ("repo", "inst.repo"),
    ("method", "inst.repo"),
    ("stage2", "inst.stage2"),
    ("updates", "inst.updates"),
    ("dd", "inst.dd"),
    ("sshd", "inst.sshd"),
    ("lang", "inst.lang"),
    ("keymap", "inst.keymap"),
    ("noverifyssl", "inst.noverifyssl"),
    ("vnc", "inst.vnc"),
    ("vncpassword", "inst.vncpassword"),
    ("vncconnect", "inst.vncconnect"),
    ("text", "inst.text"),
    ("cmdline", "inst.cmdline"),
    ("graphical", "inst.graphical"),
    ("resolution", "inst.resolution"),
    ("headless", "inst.headless"),
    ("rescue", "inst.rescue"),
    ("syslog", "inst.syslog"),
    ("nokill", "inst.nokill"),
    ("noshell", "inst.noshell"),
    ("gpt", "inst.gpt"),
    ("multilib", "inst.multilib"),
    ("dhcpclass", "inst.dhcpclass"),
];
/// Names that no release in question knows any more, with or without the prefix, and what takes their place.
const GONE: [(&str, &str); 13] = [
    ("askmethod", "inst.repo="),
    ("asknetwork", "ip="),
    ("serial", "console=ttyS0"),
    ("nousb", "nothing: USB cannot be left out"),
    ("ethtool", "the network line of the kickstart"),
    ("essid", "nothing: there is no wireless network"),
    ("wepkey", "nothing: there is no wireless network"),
    ("wpakey", "nothing: there is no wireless network"),
    ("gdb", "rd.debug"),
    ("display", "inst.text"),
    ("utf8", "nothing"),
    ("upgradeany", "nothing: Anaconda does not upgrade"),
    ("mediacheck", "rd.live.check"),
];
/// Words of Anaconda's own, in some release.
const KNOWN: [&str; 53] = [
    "addrepo",
    "blscfg",
    "cmdline",
    "dd",
    "debug",
    "dhcpclass",
    "disklabel",
    "dmraid",
    "geoloc",
    "gpt",
    "graphical",
    "headless",
    "kdump_addon",
    "keymap",
    "ks",
    "ks.all",
    "ks.sendmac",
    "ks.sendsn",
    "ksstrict",
    "lang",
    "loglevel",
    "memcheck",
    "multilib",
    "nodmraid",
    "nokill",
    "nomemcheck",
    "nompath",
    "noninteractive",
    "nosave",
    "noshell",
    "notmux",
    "noverifyssl",
    "profile",
    "proxy",
    "rdp",
    "rdp.password",
    "rdp.username",
    "repo",
    "rescue",
    "resolution",
    "selinux",
    "singlelang",
    "sshd",
    "stage2",
    "stage2.all",
    "syslog",
    "text",
    "updates",
    "virtiolog",
    "vnc",
    "waitfornet",
    "xtimeout",
    "zram",
];
/// Further words that begin with one of these.
const FAMILIES: [&str; 3] = ["vnc", "webui", "xdriver"];
const AUTOCONF: [&str; 11] = [
    "none", "off", "on", "any", "dhcp", "dhcp4", "dhcp6", "auto6", "either6", "link6", "ibft",
];

/// Looks at every word; nothing when all is well.
pub fn examine(syntax: KickstartSyntax, command_line: &str) -> Vec<Objection> {
    let words: Vec<&str> = command_line.split_whitespace().collect();
    let mut objections: Vec<_> = words.iter().filter_map(|word| look(syntax, word)).collect();
    let cards = words.iter().filter(|word| word.starts_with("ip=")).count();
    if cards > 1 && !words.iter().any(|word| word.starts_with("bootdev=")) {
        let why = "there are several ip=, and dracut then wants bootdev=<card> to know the one that leads to the installer";
        objections.push(refused("ip=", why));
    }
    objections
}

fn look(syntax: KickstartSyntax, word: &str) -> Option<Objection> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let told = |why: Option<String>| why.map(|why| refused(word, why));
    match name {
        "ip" => told(address_form(value)),
        "BOOTIF" => told(card_form(value)),
        "bootdev" | "nameserver" | "inst.proxy" | "proxy" | "inst.repo" | "inst.stage2"
            if value.is_empty() =>
        {
            Some(refused(word, "it needs a value"))
        }
        "nameserver" if value.parse::<IpAddr>().is_err() => Some(refused(
            word,
            "dracut takes one address in each nameserver=, and no list",
        )),
        "inst.repo" | "inst.stage2" if value.starts_with("cdrom") || value.starts_with("hd:") => {
            Some(doubtful(
                word,
                "a lent server has neither a CD nor a disk with your files: name a place inside of your network, by http, https, ftp or nfs",
            ))
        }
        "rd.neednet" if !matches!(value, "" | "0" | "1") => Some(refused(word, "it is 0 or 1")),
        _ => anaconda(syntax, word, name, value),
    }
}

fn anaconda(syntax: KickstartSyntax, word: &str, name: &str, value: &str) -> Option<Objection> {
    let own = name.strip_prefix("inst.");
    let plain = own.unwrap_or(name);
    if let Some((_, instead)) = GONE.iter().find(|(gone, _)| *gone == plain) {
        return Some(refused(
            word,
            format!("Anaconda has it no more; instead of it: {instead}"),
        ));
    }
    if plain == "ks" && value.starts_with("floppy") {
        return Some(refused(word, "Anaconda reads no floppy disks any more"));
    }
    let Some(own) = own else {
        let (_, instead) = BARE.iter().find(|(bare, _)| *bare == name)?;
        return needs_prefix(syntax).then(|| {
            refused(
                word,
                format!("the installer of {syntax} takes no words without their prefix; write {instead}"),
            )
        });
    };
    let since = |rhel: u8, fedora: u8| match syntax.family {
        Family::Rhel => syntax.release >= rhel,
        Family::Fedora => syntax.release >= fedora,
    };
    let is_vnc = own.starts_with("vnc");
    let is_rdp = own.starts_with("rdp");
    if is_vnc && since(10, 43) {
        return Some(refused(
            word,
            format!("the installer of {syntax} has no VNC; write inst.rdp, or inst.text"),
        ));
    }
    if is_rdp && !since(10, 42) {
        return Some(refused(
            word,
            format!("the installer of {syntax} has no RDP; write inst.vnc, or inst.text"),
        ));
    }
    if matches!(own, "nompath" | "dmraid" | "nodmraid") && since(10, 43) {
        return Some(refused(
            word,
            format!("the installer of {syntax} does not know it any more; take it away"),
        ));
    }
    let known = KNOWN.contains(&own)
        || own.ends_with("_addon")
        || FAMILIES.iter().any(|family| own.starts_with(family));
    (!known).then(|| {
        doubtful(
            word,
            "no release of Anaconda that we know of has it; is it written as it should be?",
        )
    })
}

/// Fedora 34, and RHEL 9 which was made of it, ignore Anaconda's words without `inst.`.
fn needs_prefix(syntax: KickstartSyntax) -> bool {
    match syntax.family {
        Family::Rhel => syntax.release >= 9,
        Family::Fedora => syntax.release >= 34,
    }
}

/// dracut.cmdline(7): a way, a card and a way, or a whole configuration.
fn address_form(value: &str) -> Option<String> {
    if value == "bootif" {
        return Some("dracut does that by itself when there is a BOOTIF=; take it away".to_owned());
    }
    let fields = fields(value);
    let ways = |text: &str| text.split(',').all(|way| AUTOCONF.contains(&way));
    let well = match fields.as_slice() {
        [way] => ways(way),
        [card, way] | [card, way, _] | [card, way, _, _] => !card.is_empty() && ways(way),
        [address, peer, router, mask, _, _, way, ..] if fields.len() <= 10 => {
            let free = |text: &str| text.is_empty() || text.parse::<IpAddr>().is_ok();
            let prefix = mask.parse::<u8>().is_ok_and(|prefix| prefix <= 128);
            free(address)
                && free(peer)
                && free(router)
                && (free(mask) || prefix)
                && (way.is_empty() || ways(way))
        }
        _ => false,
    };
    (!well).then(|| {
        "dracut takes ip=<way>, ip=<card>:<way>, or ip=<address>:<peer>:<router>:<mask>:<name>:<card>:<way>; an IPv6 address stands in brackets".to_owned()
    })
}

/// Fields between colons; those in brackets hold colons of their own.
fn fields(value: &str) -> Vec<String> {
    let (mut fields, mut depth) = (vec![String::new()], 0u32);
    for character in value.chars() {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => fields.push(String::new()),
            _ => fields
                .last_mut()
                .expect("there is one from the start")
                .push(character),
        }
    }
    fields
}

/// As PXELINUX makes it: the kind of the hardware and six bytes, by dashes; dracut also takes it without the kind, and by colons.
fn card_form(value: &str) -> Option<String> {
    let bytes: Vec<_> = value.split(['-', ':']).collect();
    let hexadecimal = |byte: &&str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    let well = matches!(bytes.len(), 6 | 7) && bytes.iter().all(hexadecimal);
    (!well).then(|| "it is a card's address behind its kind, such as 01-52-54-00-12-34-56".to_owned())
}

fn refused(word: &str, why: impl Into<String>) -> Objection {
    objection(word, Verdict::Refused, why)
}

fn doubtful(word: &str, why: impl Into<String>) -> Objection {
    objection(word, Verdict::Doubtful, why)
}

fn objection(word: &str, verdict: Verdict, why: impl Into<String>) -> Objection {
    Objection {
        word: word.to_owned(),
        verdict,
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(release: &str, command_line: &str) -> Vec<Objection> {
        examine(release.parse().unwrap(), command_line)
    }

    fn is_refused(release: &str, word: &str) -> bool {
        of(release, word)
            .iter()
            .any(|objection| objection.verdict == Verdict::Refused)
    }

    #[test]
    fn words_without_their_prefix_end_with_rhel_9_and_fedora_34() {
        for (bare, _) in BARE {
            let word = format!("{bare}=http://a/b");
            for release in ["RHEL7", "RHEL8", "F30", "F33"] {
                assert!(!is_refused(release, &word), "{release} {word}");
            }
            for release in ["RHEL9", "RHEL10", "RHEL11", "F34", "F46"] {
                assert!(is_refused(release, &word), "{release} {word}");
            }
        }
    }

    #[test]
    fn what_documentation_recommends_is_fine_in_every_release() {
        let line = "inst.ks=http://a/ks inst.repo=https://a/os inst.stage2=http://a/os inst.stage2=nfs:a:/os inst.text inst.proxy=http://p:3128 \
                    proxy=http://p:3128 ip=dhcp BOOTIF=01-52-54-00-12-34-56 rd.neednet=1 rd.live.check rd.debug console=ttyS0,115200 quiet \
                    modprobe.blacklist=firewire_ohci nameserver=10.0.0.1 nameserver=2001:db8::1 inst.selinux=0 inst.kdump_addon=off inst.sshd";
        for syntax in KickstartSyntax::all() {
            assert_eq!(examine(syntax, line), [], "{syntax}");
        }
    }

    #[test]
    fn remote_screens_changed_with_rhel_10() {
        for (release, vnc, rdp) in [
            ("RHEL8", true, false),
            ("RHEL9", true, false),
            ("RHEL10", false, true),
            ("F41", true, false),
            ("F42", true, true),
            ("F43", false, true),
        ] {
            assert_eq!(!is_refused(release, "inst.vncpassword=x"), vnc, "{release}");
            assert_eq!(!is_refused(release, "inst.rdp.username=x"), rdp, "{release}");
            assert_eq!(
                is_refused(release, "inst.nompath"),
                release == "RHEL10" || release == "F43"
            );
        }
    }

    #[test]
    fn what_is_long_gone_is_refused_everywhere() {
        for release in ["RHEL7", "RHEL8", "RHEL10", "F40"] {
            for word in ["askmethod", "inst.mediacheck", "ks=floppy", "serial", "essid=x"] {
                assert!(is_refused(release, word), "{release} {word}");
            }
        }
    }

    #[test]
    fn networks_are_written_as_dracut_reads_them() {
        for good in [
            "ip=dhcp",
            "ip=auto6",
            "ip=dhcp,dhcp6",
            "ip=eno1:dhcp",
            "ip=eno1:dhcp:9000",
            "ip=10.0.0.2::10.0.0.1:255.255.255.0:web:eno1:none",
            "ip=10.0.0.2::10.0.0.1:24::eno1:none:1500",
            "ip=[2001:db8::2]::[2001:db8::1]:64::eno1:none",
            "ip=::::web::dhcp",
            "BOOTIF=52:54:00:12:34:56",
            "ip=a:dhcp ip=b:dhcp bootdev=a",
        ] {
            assert_eq!(of("RHEL9", good), [], "{good}");
        }
        for bad in [
            "ip=",
            "ip=10.0.0.2",
            "ip=eno1:static",
            "ip=10.0.0.2::10.0.0.1:255.255.255.0:web",
            "ip=2001:db8::2::2001:db8::1:64::eno1:none",
            "ip=bootif",
            "BOOTIF=eno1",
            "BOOTIF=01-52-54-00-12",
            "nameserver=10.0.0.1,10.0.0.2",
            "ip=a:dhcp ip=b:dhcp",
            "inst.repo=",
            "rd.neednet=yes",
        ] {
            assert!(is_refused("RHEL9", bad), "{bad}");
        }
    }

    #[test]
    fn what_nobody_knows_is_doubtful_and_no_more() {
        for word in [
            "inst.kickstart=http://a",
            "inst.repo=cdrom",
            "inst.stage2=hd:LABEL=x",
        ] {
            let [objection] = &of("RHEL9", word)[..] else {
                panic!("{word}")
            };
            assert_eq!(objection.verdict, Verdict::Doubtful, "{word}");
        }
    }
}

//! The one renderer over the templates in `grub/templates/`.
//!
//! `{{name}}` is replaced by a value, and what stands between `{{each archive}}` and `{{end}}` is written once for each archive of stage 1, with its path as
//! `{{archive}}` and its last part as `{{name}}`; nothing else is special. Neither GRUB nor iPXE has an escape that works everywhere, so values
//! are not escaped: one with a character that means something to either language is refused.

use super::plan::{AgentBoot, BootPlan};
use leaseboot_protocol::handover::StagedFiles;
use leaseboot_protocol::network::MacAddress;
use std::net::IpAddr;

/// The boot loader that a script is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// GRUB 2.
    Grub,
    /// iPXE.
    Ipxe,
}

/// Where stage 1 is found: host with an optional port, and the paths there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage1Places {
    /// Such as `10.10.0.1` or `[fd00:10::1]`.
    pub host: String,
    /// The host's address alone, for TFTP.
    pub tftp: IpAddr,
    /// Path of the kernel.
    pub kernel: String,
    /// Paths of the archives that stage 1 consists of, in the order in which they are unpacked; the site archive comes after them.
    pub archives: Vec<String>,
}

impl Stage1Places {
    /// Host and TFTP server as a language writes them. GRUB wants an address of IPv6 bare, where a comma ends the protocol; iPXE has URLs, with brackets around it.
    fn hosts(&self, language: Language) -> (String, String) {
        match (self.tftp, language) {
            (IpAddr::V6(address), Language::Ipxe) => (self.host.clone(), format!("[{address}]")),
            (IpAddr::V6(address), Language::Grub) => (address.to_string(), address.to_string()),
            (IpAddr::V4(address), _) => (self.host.clone(), address.to_string()),
        }
    }
}

/// A script cannot be rendered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A value could change the script's meaning.
    #[error(
        "cannot render a boot script: the value of {{{{{name}}}}} is {value:?}, and only letters, digits, spaces and .,:=/_+@-[] are safe"
    )]
    Unsafe {
        /// The placeholder.
        name: String,
        /// The value.
        value: String,
    },
    /// The template names a value that it is not given.
    #[error("cannot render a boot script: its template asks for {{{{{name}}}}}, which is not known here")]
    Unknown {
        /// The placeholder.
        name: String,
    },
    /// The template has `{{` without `}}`.
    #[error("cannot render a boot script: its template has an open {{{{")]
    Open,
}

/// The words that stage 1 always gets: restart when the kernel gives up.
const KERNEL_WORDS: &str = "panic=30";

const AGENT: [&str; 2] = [
    include_str!("../../../grub/templates/agent.grub"),
    include_str!("../../../grub/templates/agent.ipxe"),
];
const DISK: [&str; 2] = [
    include_str!("../../../grub/templates/disk.grub"),
    include_str!("../../../grub/templates/disk.ipxe"),
];
const STAGED: [&str; 2] = [
    include_str!("../../../grub/templates/staged.grub"),
    include_str!("../../../grub/templates/staged.ipxe"),
];
const UNAVAILABLE: [&str; 2] = [
    include_str!("../../../grub/templates/unavailable.grub"),
    include_str!("../../../grub/templates/unavailable.ipxe"),
];

impl Language {
    fn of(self, [grub, ipxe]: [&'static str; 2]) -> &'static str {
        match self {
            Language::Grub => grub,
            Language::Ipxe => ipxe,
        }
    }
}

/// The script that carries a plan out.
///
/// # Errors
/// [`RenderError::Unsafe`]; the others are mistakes in the templates.
pub fn render(
    language: Language,
    mac: MacAddress,
    plan: &BootPlan,
    places: &Stage1Places,
) -> Result<String, RenderError> {
    let mac = mac.to_string();
    let (host, tftp) = places.hosts(language);
    match plan {
        BootPlan::LocalDisk => fill(language.of(DISK), &[("mac", &mac)], &[]),
        BootPlan::Staged(files) => {
            let sums = sums_path(files);
            let values = [
                ("mac", mac.as_str()),
                ("host", &host),
                ("tftp", &tftp),
                ("id", files.id.as_str()),
                ("sums", &sums),
            ];
            fill(language.of(STAGED), &values, &[])
        }
        BootPlan::Agent(boot) => {
            let (site, words) = (site_path(boot), kernel_words(boot));
            let values = [
                ("mac", mac.as_str()),
                ("host", &host),
                ("kernel", &places.kernel),
                ("site", &site),
                ("words", &words),
            ];
            fill(language.of(AGENT), &values, &places.archives)
        }
    }
}

/// The script for a server whose plan cannot be told now: it says so and restarts.
///
/// # Errors
/// Only mistakes in the templates.
pub fn render_unavailable(language: Language, mac: MacAddress) -> Result<String, RenderError> {
    fill(language.of(UNAVAILABLE), &[("mac", &mac.to_string())], &[])
}

fn site_path(boot: &AgentBoot) -> String {
    format!("/boot/site/{}.img", boot.site.as_str())
}

/// The digests stand in the path, and so in the script: what is served there says nothing that the script does not.
fn sums_path(files: &StagedFiles) -> String {
    format!(
        "/boot/sums/{}/{}/{}/{}",
        files.id, files.kernel, files.ramdisk, files.start
    )
}

fn kernel_words(boot: &AgentBoot) -> String {
    let mut words = vec![KERNEL_WORDS.to_owned()];
    if let Some(console) = &boot.console {
        // The last one named becomes /dev/console.
        words.extend(["console=tty0".to_owned(), format!("console={console}")]);
    }
    words.extend(boot.kernel_words.iter().map(ToString::to_string));
    words.join(" ")
}

/// Where a part of a template begins and ends that is written once for each archive.
const EACH: &str = "each archive";
const END: &str = "{{end}}";

fn fill(template: &str, values: &[(&str, &str)], archives: &[String]) -> Result<String, RenderError> {
    let mut script = String::with_capacity(template.len() + 512);
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or(RenderError::Open)?;
        if name == EACH {
            let (part, after) = after.split_once(END).ok_or(RenderError::Open)?;
            script.push_str(text);
            for archive in archives {
                let name = archive.rsplit('/').next().unwrap_or(archive);
                let own = [("archive", archive.as_str()), ("name", name)];
                script.push_str(&fill(part, &[values, &own].concat(), &[])?);
            }
            rest = after;
            continue;
        }
        let value = values.iter().find(|(known, _)| *known == name);
        let (_, value) = value.ok_or_else(|| RenderError::Unknown {
            name: name.to_owned(),
        })?;
        if !value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b" .,:=/_+@-[]".contains(&b))
        {
            return Err(RenderError::Unsafe {
                name: name.to_owned(),
                value: (*value).to_owned(),
            });
        }
        script.push_str(text);
        script.push_str(value);
        rest = after;
    }
    script.push_str(rest);
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::plan::{Drivers, SiteArchiveId};
    use leaseboot_protocol::digest::Sha256;

    const MAC: MacAddress = MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn places() -> Stage1Places {
        Stage1Places {
            host: "10.10.0.1".to_owned(),
            tftp: IpAddr::from([10, 10, 0, 1]),
            kernel: "/boot/files/aa/vmlinuz".to_owned(),
            archives: vec!["/boot/files/bb/stage1.img".to_owned()],
        }
    }

    fn agent() -> (BootPlan, SiteArchiveId) {
        let site = SiteArchiveId::random().unwrap();
        let boot = AgentBoot {
            site: site.clone(),
            drivers: Drivers::All,
            console: Some("ttyS0,115200".parse().unwrap()),
            kernel_words: vec!["loglevel=4".parse().unwrap()],
        };
        (BootPlan::Agent(Box::new(boot)), site)
    }

    #[test]
    fn stage_1_is_kernel_image_and_site_archive() {
        let (plan, site) = agent();
        let grub = render(Language::Grub, MAC, &plan, &places()).unwrap();
        let words = "panic=30 console=tty0 console=ttyS0,115200 loglevel=4";
        assert!(
            grub.contains(&format!("linux ($way,10.10.0.1)/boot/files/aa/vmlinuz {words};")),
            "{grub}"
        );
        let site = site.as_str();
        assert!(grub.contains(&format!(
            "initrd ($way,10.10.0.1)/boot/files/bb/stage1.img ($way,10.10.0.1)/boot/site/{site}.img;"
        )));
        let ipxe = render(Language::Ipxe, MAC, &plan, &places()).unwrap();
        assert!(ipxe.starts_with("#!ipxe\n"));
        assert!(ipxe.contains(&format!(
            "initrd --name site.img ${{way}}://10.10.0.1/boot/site/{site}.img ||"
        )));
        // HTTP first: TFTP takes many times as long.
        assert!(grub.contains("for way in http tftp;") && ipxe.contains("\nset way http\n:load\n"));
    }

    #[test]
    fn each_loader_has_addresses_of_ipv6_in_its_own_writing() {
        let address: std::net::Ipv6Addr = "fd00:10::1".parse().unwrap();
        let places = Stage1Places {
            host: format!("[{address}]"),
            tftp: address.into(),
            ..places()
        };
        let grub = render(Language::Grub, MAC, &agent().0, &places).unwrap();
        assert!(
            grub.contains("linux ($way,fd00:10::1)/boot/files/aa/vmlinuz "),
            "{grub}"
        );
        let ipxe = render(Language::Ipxe, MAC, &agent().0, &places).unwrap();
        assert!(ipxe.contains("${way}://[fd00:10::1]/boot/site/"), "{ipxe}");
        let ipxe = render(
            Language::Ipxe,
            MAC,
            &BootPlan::Staged(Box::new(staged())),
            &places,
        )
        .unwrap();
        assert!(ipxe.contains("chain tftp://[fd00:10::1]/"), "{ipxe}");
    }

    fn staged() -> StagedFiles {
        StagedFiles {
            id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            kernel: Sha256::of(b"kernel"),
            ramdisk: Sha256::of(b"ramdisk"),
            start: Sha256::of(b"start"),
        }
    }

    #[test]
    fn what_is_staged_is_entered_only_after_its_digests_were_checked() {
        let plan = BootPlan::Staged(Box::new(staged()));
        let grub = render(Language::Grub, MAC, &plan, &places()).unwrap();
        let check = grub.find("hashsum --hash sha256").unwrap();
        assert!(check < grub.find("source ").unwrap(), "{grub}");
        for digest in [staged().kernel, staged().ramdisk, staged().start] {
            assert!(grub.contains(&digest.to_string()), "{grub}");
        }
        // iPXE reads no disk: it fetches GRUB, which asks for its own script.
        let ipxe = render(Language::Ipxe, MAC, &plan, &places()).unwrap();
        assert!(ipxe.contains("chain tftp://10.10.0.1/"), "{ipxe}");
    }

    #[test]
    fn archives_are_loaded_one_after_the_other() {
        let places = Stage1Places {
            archives: ["bb/base.img", "cc/driver-igb.img"]
                .map(|path| format!("/boot/files/{path}"))
                .into(),
            ..places()
        };
        let (plan, site) = agent();
        let grub = render(Language::Grub, MAC, &plan, &places).unwrap();
        assert!(grub.contains(&format!(
            "initrd ($way,10.10.0.1)/boot/files/bb/base.img ($way,10.10.0.1)/boot/files/cc/driver-igb.img ($way,10.10.0.1)/boot/site/{}.img;",
            site.as_str()
        )), "{grub}");
        let ipxe = render(Language::Ipxe, MAC, &plan, &places).unwrap();
        assert!(
            ipxe.contains("vmlinuz initrd=base.img initrd=driver-igb.img initrd=site.img panic=30"),
            "{ipxe}"
        );
        let lines = "initrd --name base.img ${way}://10.10.0.1/boot/files/bb/base.img || goto failed\n\
                     initrd --name driver-igb.img ${way}://10.10.0.1/boot/files/cc/driver-igb.img || goto failed\n\
                     initrd --name site.img ";
        assert!(ipxe.contains(lines), "{ipxe}");
    }

    #[test]
    fn every_script_is_complete_and_ends_by_itself() {
        for language in [Language::Grub, Language::Ipxe] {
            let scripts = [
                render(language, MAC, &agent().0, &places()).unwrap(),
                render(language, MAC, &BootPlan::LocalDisk, &places()).unwrap(),
                render(language, MAC, &BootPlan::Staged(Box::new(staged())), &places()).unwrap(),
                render_unavailable(language, MAC).unwrap(),
            ];
            for script in scripts {
                assert!(!script.contains("{{"), "{script}");
                assert!(script.contains("52:54:00:12:34:56"));
                let last = script.lines().last().unwrap();
                // GRUB's agent script ends in words: the binary's own script goes on from there, and restarts in the end.
                let returns = language == Language::Grub && last.starts_with("echo");
                assert!(
                    last == "reboot" || last.starts_with("exit") || returns,
                    "{script}"
                );
            }
        }
    }

    #[test]
    fn values_that_could_change_the_meaning_are_refused() {
        for host in [
            "10.10.0.1\nreboot",
            "a;b",
            "${net0/ip}",
            "a || b",
            "\"",
            "a\\b",
            "a#b",
            "(hd0)",
        ] {
            let places = Stage1Places {
                host: host.to_owned(),
                ..places()
            };
            let refused = render(Language::Ipxe, MAC, &agent().0, &places);
            assert!(matches!(refused, Err(RenderError::Unsafe { .. })), "{host:?}");
        }
    }
}

//! Profiles: what kind of server is borrowed, and what is installed on it.

use super::image::{Content, Image};
use super::membership::{self, AnnounceTable, DrainTable, NetworkTable};
use super::period::Period;
use super::sealed::read_sealed;
use super::source::{ConfigError, Source};
use crate::borrowing::membership::Membership;
use crate::borrowing::merged;
use crate::error_chain;
use crate::images::arguments::{self, Objection, Verdict};
use crate::passage::Passage;
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::marks::{self, MarkError};
use leaseboot_protocol::settings::Requirements;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    image: Spanned<String>,
    installer: Option<Installer>,
    #[serde(
        alias = "preseed",
        alias = "autoinstall",
        alias = "variables",
        alias = "user_data"
    )]
    kickstart: Option<Spanned<PathBuf>>,
    hostname: Spanned<String>,
    #[serde(default)]
    requirements: Requirements,
    #[serde(default)]
    sealed: BTreeMap<String, Spanned<PathBuf>>,
    term: Option<Spanned<String>>,
    #[serde(default)]
    renew: bool,
    install_servers: Option<Vec<String>>,
    #[serde(default)]
    announce: AnnounceTable,
    drain: Option<DrainTable>,
    #[serde(default)]
    network: NetworkTable,
}

/// A profile with everything that it names looked at.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The folder's name below `profiles/`.
    pub name: String,
    /// The installer.
    pub image: Image,
    /// The installer that reads the text.
    pub installer: Installer,
    /// The text in that installer's language, marks in place.
    pub kickstart: String,
    /// Where it stands, as people name it.
    pub kickstart_origin: String,
    /// Names for servers of this profile.
    pub hostname: HostnamePattern,
    /// What a server must have.
    pub requirements: Requirements,
    /// The files of the sealed values, by name.
    pub sealed: BTreeMap<String, PathBuf>,
    /// For how many seconds servers of this profile are borrowed; without it, for the lender's default.
    pub term_s: Option<u64>,
    /// Whether a lease is renewed when its term is about to end.
    pub renew: bool,
    /// The install servers that a server may fetch from, by their names in `po.toml`; without it, all.
    pub install_servers: Option<Vec<String>>,
    /// What is to be after the installation.
    pub membership: Membership,
}

/// A host name, with `{n}` where a number may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostnamePattern(String);

const NUMBER: &str = "{n}";

impl HostnamePattern {
    /// A pattern, when it makes valid host names.
    pub fn new(text: &str) -> Option<Self> {
        let longest = text.replacen(NUMBER, "9999", 1);
        longest.parse::<Hostname>().ok().map(|_| Self(text.to_owned()))
    }

    /// The first name, counting from 1, that is not `taken`. A pattern without `{n}` makes one name.
    pub fn first_free(&self, taken: impl Fn(&Hostname) -> bool) -> Option<Hostname> {
        let last = if self.0.contains(NUMBER) { 9999 } else { 1 };
        (1..=last)
            .filter_map(|n| self.0.replacen(NUMBER, &n.to_string(), 1).parse().ok())
            .find(|name| !taken(name))
    }
}

impl Profile {
    /// Reads `FOLDER/profiles/NAME/profile.toml` and all that it names.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(folder: &Path, name: &str) -> Result<Self, ConfigError> {
        let profiles = folder.join("profiles");
        if !is_folder_name(name) || !profiles.join(name).is_dir() {
            return Err(no_such_profile(&profiles, name));
        }
        let source = Source::read(
            &profiles.join(name).join("profile.toml"),
            "a profile is a folder with profile.toml and a kickstart",
        )?;
        let file: ProfileFile = source.parse()?;
        let (image, installer) = load_image(folder, &source, &file)?;
        let hostname = HostnamePattern::new(file.hostname.get_ref()).ok_or_else(|| {
            let problem = format!(
                "hostname {:?} does not make host names; write one like \"web-{{n}}\"",
                file.hostname.get_ref()
            );
            source.at(file.hostname.span(), problem)
        })?;
        let (kickstart, path) = load_text(&source, file.kickstart.as_ref(), installer)?;
        let sealed = load_sealed(&source, &file, &kickstart)?;
        let term_s = load_term(&source, file.term.as_ref())?;
        Ok(Self {
            name: name.to_owned(),
            image,
            installer,
            kickstart: kickstart.text().to_owned(),
            kickstart_origin: path.strip_prefix(folder).unwrap_or(&path).display().to_string(),
            hostname,
            requirements: file.requirements,
            sealed,
            term_s,
            renew: file.renew,
            install_servers: file.install_servers,
            membership: membership::membership(&source, file.announce, file.drain, file.network)?,
        })
    }
}

impl Profile {
    /// The install servers that it names must be in `po.toml`, which the gateway's doors were made of.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check_install_servers(&self, folder: &Path, passage: &Passage) -> Result<(), ConfigError> {
        let named = self.install_servers.as_deref().unwrap_or_default();
        let Some(name) = passage.unknown(named) else {
            return Ok(());
        };
        Err(ConfigError {
            file: folder.join("profiles").join(&self.name).join("profile.toml"),
            line: None,
            problem: format!(
                "install_servers names {name:?}, and the po.toml that is served has no [[install_server]] of that name; write one and restart, or remove the name"
            ),
            source: None,
        })
    }
}

fn load_term(source: &Source, term: Option<&Spanned<String>>) -> Result<Option<u64>, ConfigError> {
    let parse = |term: &Spanned<String>| {
        let parsed = term.get_ref().parse::<Period>();
        parsed.map_err(|error| source.at(term.span(), error.to_string()))
    };
    Ok(term.map(parse).transpose()?.map(|period| period.seconds))
}

fn is_folder_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

fn no_such_profile(profiles: &Path, name: &str) -> ConfigError {
    let mut known: Vec<_> = std::fs::read_dir(profiles)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| profiles.join(name).join("profile.toml").is_file())
        .collect();
    known.sort();
    let known = match known.as_slice() {
        [] => "there are none yet: make a folder with profile.toml and a kickstart".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    };
    ConfigError {
        file: profiles.to_owned(),
        line: None,
        problem: format!("there is no profile {name:?}; {known}"),
        source: None,
    }
}

fn load_image(folder: &Path, source: &Source, file: &ProfileFile) -> Result<(Image, Installer), ConfigError> {
    let name = &file.image;
    let path = folder.join("images").join(name.get_ref());
    if is_folder_name(name.get_ref()) && path.is_dir() {
        let image = Image::load(&path)?;
        let installer = installer_of(&image, file.installer)
            .ok_or_else(|| source.at(name.span(), "installer and image do not go together: a disk image needs no installer, and nothing else is one"))?;
        let foreign = installer.foreign_arguments();
        let mut words = image.command_line().unwrap_or_default().split_whitespace();
        return match words.find(|word| foreign.iter().any(|foreign| word.starts_with(foreign))) {
            Some(word) => {
                let problem = format!(
                    "the command line of image {:?} has {word:?}, by which {} would read another text than the merged one; remove it there",
                    name.get_ref(),
                    installer
                );
                Err(source.at(name.span(), problem))
            }
            None => match refused_argument(installer, &image) {
                Some(objection) => {
                    let problem = format!("the command line of image {:?} has {objection}", name.get_ref());
                    Err(source.at(name.span(), problem))
                }
                None => Ok((image, installer)),
            },
        };
    }
    let problem = format!(
        "image {:?} is not there; make the folder {} with image.toml, vmlinuz and initrd.img",
        name.get_ref(),
        path.display()
    );
    Err(source.at(name.span(), problem))
}

/// The first word of an image's command line that its installer is known not to take.
fn refused_argument(installer: Installer, image: &Image) -> Option<Objection> {
    let Installer::Kickstart { syntax } = installer else {
        return None;
    };
    let objections = arguments::examine(syntax, image.command_line().unwrap_or_default());
    objections
        .into_iter()
        .find(|objection| objection.verdict == Verdict::Refused)
}

/// A disk image says itself that it is one.
fn installer_of(image: &Image, said: Option<Installer>) -> Option<Installer> {
    let is_disk = matches!(image.content, Content::Disk(_));
    let installer = match is_disk {
        true => said.unwrap_or(Installer::DiskImage {}),
        false => said.unwrap_or_default(),
    };
    (is_disk == matches!(installer, Installer::DiskImage {})).then_some(installer)
}

/// The profile's text with its place; a disk image may do without one.
fn load_text(
    source: &Source,
    named: Option<&Spanned<PathBuf>>,
    installer: Installer,
) -> Result<(Source, PathBuf), ConfigError> {
    match (named, installer) {
        (Some(named), _) => load_kickstart(source, named, installer),
        (None, Installer::DiskImage {}) => {
            let path = source.folder().join("user-data");
            Ok((Source::of_text(&path, ""), path))
        }
        (None, _) => {
            let problem =
                "names no text for the installer: write kickstart = \"FILE\" (or preseed, or autoinstall)";
            Err(source.whole(problem.to_owned()))
        }
    }
}

fn load_kickstart(
    source: &Source,
    named: &Spanned<PathBuf>,
    installer: Installer,
) -> Result<(Source, PathBuf), ConfigError> {
    let path = source.folder().join(named.get_ref());
    if !path.is_file() {
        let problem = format!(
            "kickstart {:?} is not there; put the file at {}",
            named.get_ref().display().to_string(),
            path.display()
        );
        return Err(source.at(named.span(), problem));
    }
    let text = Source::read(&path, "it must be UTF-8 text")?;
    merged::check_outline(installer, text.text()).map_err(|error| text.line(error.line, error.problem))?;
    Ok((text, path))
}

fn load_sealed(
    source: &Source,
    file: &ProfileFile,
    kickstart: &Source,
) -> Result<BTreeMap<String, PathBuf>, ConfigError> {
    let names = marks::names(kickstart.text()).map_err(|error| match error {
        MarkError::Malformed { line }
        | MarkError::Missing { line, .. }
        | MarkError::LineBreak { line, .. } => kickstart.line(
            line,
            "a sealed mark is not of the form @sealed:name@ (a-z, 0-9 and _)",
        ),
    })?;
    if let Some(name) = names.iter().find(|name| !file.sealed.contains_key(*name)) {
        let mark = format!("@sealed:{name}@");
        let line = kickstart.text().lines().position(|line| line.contains(&mark));
        let problem = format!("{mark} has no value; name its file in [sealed] of the profile's profile.toml");
        return Err(kickstart.line(line.unwrap_or(0) + 1, problem));
    }
    let mut sealed = BTreeMap::new();
    for (name, path) in &file.sealed {
        let full = source.folder().join(path.get_ref());
        if !names.contains(name) {
            let problem =
                format!("the kickstart has no mark @sealed:{name}@; add the mark or remove this line");
            return Err(source.at(path.span(), problem));
        }
        read_sealed(&full)
            .map_err(|error| source.at(path.span(), format!("{name}: {}", error_chain(&error))))?;
        sealed.insert(name.clone(), full);
    }
    Ok(sealed)
}

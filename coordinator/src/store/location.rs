//! Where the store is: a file, or a PostgreSQL database.
//!
//! The address of a database never contains its password; that stands in a file of its own, so an address may be printed. It
//! joins the two only in the moment in which a connection is configured.
//!
//! | the configuration says | the connection |
//! |---|---|
//! | a CA file | TLS; the server's certificate must be of that CA, or of one that this machine trusts, and name the host of the address |
//! | `sslmode=require` | TLS, with whoever answers |
//! | neither | TLS where the server has it, with whoever answers: for a socket, or a network of its own |
//!
//! Where TLS was asked for there is no connection without it.

use leaseboot_protocol::secret::Secret;
use sqlx::any::AnyConnectOptions;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

/// Where everything stands that the Lease Manager must not forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// An SQLite file: one Lease Manager, nothing to set up.
    Sqlite(PathBuf),
    /// A PostgreSQL database, on which several Lease Managers may run.
    Postgres(PostgresLocation),
}

/// A database and how to get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresLocation {
    url: String,
    password_file: Option<PathBuf>,
}

/// The words of `lm.toml` name no store.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// It begins like an address and is none.
    #[error(
        "this is not the address of a PostgreSQL database: write it as postgres://user@host/database, or postgres:///database?host=/run/postgresql&user=lm for a local socket"
    )]
    Address {
        /// Why not.
        source: sqlx::Error,
    },
    /// A password where everybody would see it.
    #[error("the address contains a password: write it into a file and name that with store_password_file")]
    Password,
    /// A password or a CA for a file.
    #[error(
        "store_password_file and store_ca_file are for a PostgreSQL database; an SQLite file has neither password nor certificate"
    )]
    NoDatabase,
    /// A CA, and words by which nobody would look at the certificate.
    #[error(
        "store_ca_file says to check the database's certificate, and sslmode={mode} in the address says not to: leave sslmode out, or write verify-full"
    )]
    Unchecked {
        /// What the address says.
        mode: String,
    },
}

/// The password of the store cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read the password of the store from {path}: the Lease Manager's user must be able to read it"
)]
pub struct PasswordError {
    /// The file.
    pub path: PathBuf,
    /// Why it failed.
    source: std::io::Error,
}

impl Location {
    /// What `store`, `store_password_file` and `store_ca_file` of an `lm.toml` in `folder` say.
    ///
    /// # Errors
    /// [`LocationError`].
    pub fn parse(
        folder: &Path,
        store: &str,
        password_file: Option<&Path>,
        ca_file: Option<&Path>,
    ) -> Result<Self, LocationError> {
        if !store.starts_with("postgres://") && !store.starts_with("postgresql://") {
            return match password_file.or(ca_file) {
                None => Ok(Location::Sqlite(folder.join(store))),
                Some(_) => Err(LocationError::NoDatabase),
            };
        }
        let options =
            AnyConnectOptions::from_str(store).map_err(|source| LocationError::Address { source })?;
        let url = &options.database_url;
        if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
            return Err(LocationError::Password);
        }
        let url = match ca_file {
            Some(file) => trusting(options, &folder.join(file))?,
            None => store.to_owned(),
        };
        Ok(Location::Postgres(PostgresLocation {
            url,
            password_file: password_file.map(|file| folder.join(file)),
        }))
    }
}

/// The address with the demand that the server show a certificate of this CA.
fn trusting(options: AnyConnectOptions, ca: &Path) -> Result<String, LocationError> {
    let mut url = options.database_url;
    let mode = url
        .query_pairs()
        .find(|(key, _)| ["sslmode", "ssl-mode"].contains(&key.as_ref()))
        .map(|(_, mode)| mode.into_owned());
    match mode.as_deref() {
        None => {
            url.query_pairs_mut().append_pair("sslmode", "verify-full");
        }
        Some("verify-full" | "verify-ca") => {}
        Some(_) => {
            let mode = mode.unwrap_or_default();
            return Err(LocationError::Unchecked { mode });
        }
    }
    url.query_pairs_mut()
        .append_pair("sslrootcert", &ca.to_string_lossy());
    Ok(url.into())
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Sqlite(path) => path.display().fmt(f),
            Location::Postgres(place) => place.url.fmt(f),
        }
    }
}

impl PostgresLocation {
    /// The address, without the password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Reads the password, if there is one: a file of one line.
    pub(super) fn password(&self) -> Result<Option<Secret>, PasswordError> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path).map_err(|source| PasswordError {
            path: path.clone(),
            source,
        })?;
        let line = text.trim_end_matches(['\r', '\n']).to_owned();
        Ok(Some(Secret::new(line)))
    }

    /// How to connect. The result must not be printed.
    pub(super) fn options(&self, password: Option<&Secret>) -> Result<AnyConnectOptions, sqlx::Error> {
        let mut options = AnyConnectOptions::from_str(&self.url)?;
        let mut pairs = options.database_url.query_pairs_mut();
        pairs.append_pair("application_name", "leaseboot-lm");
        if let Some(password) = password {
            pairs.append_pair("password", password.expose());
        }
        drop(pairs);
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(store: &str, password_file: Option<&str>) -> Result<Location, LocationError> {
        Location::parse(
            Path::new("/etc/leaseboot"),
            store,
            password_file.map(Path::new),
            None,
        )
    }

    #[test]
    fn a_path_is_a_file_and_an_address_a_database() {
        assert_eq!(
            parse("lm.sqlite", None).unwrap(),
            Location::Sqlite("/etc/leaseboot/lm.sqlite".into())
        );
        let address = "postgres://lm@db.lender.example/lm?sslmode=verify-full";
        let database = parse(address, Some("lm.password")).unwrap();
        assert_eq!(database.to_string(), address);
        parse("postgres:///lm?host=/run/postgresql&user=lm", None).unwrap();
    }

    #[test]
    fn a_password_in_the_address_is_refused_without_being_repeated() {
        for address in [
            "postgres://lm:hunter2@db/lm",
            "postgresql:///lm?password=hunter2&host=/run/postgresql",
        ] {
            let refused = parse(address, None).unwrap_err();
            assert!(matches!(refused, LocationError::Password));
            assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        }
        assert!(matches!(
            parse("postgres://@/:x", None),
            Err(LocationError::Address { .. })
        ));
        assert!(matches!(
            parse("lm.sqlite", Some("file")),
            Err(LocationError::NoDatabase)
        ));
    }

    #[test]
    fn a_ca_file_means_that_the_certificate_is_checked() {
        let with_ca = |store: &str| {
            Location::parse(
                Path::new("/etc/leaseboot"),
                store,
                None,
                Some(Path::new("db ca.pem")),
            )
        };
        assert_eq!(
            with_ca("postgres://lm@db/lm").unwrap().to_string(),
            "postgres://lm@db/lm?sslmode=verify-full&sslrootcert=%2Fetc%2Fleaseboot%2Fdb+ca.pem"
        );
        with_ca("postgres://lm@db/lm?sslmode=verify-ca").unwrap();
        for mode in ["disable", "allow", "prefer", "require"] {
            let refused = with_ca(&format!("postgres://lm@db/lm?sslmode={mode}")).unwrap_err();
            assert!(matches!(refused, LocationError::Unchecked { mode: said } if said == mode));
        }
        assert!(matches!(with_ca("lm.sqlite"), Err(LocationError::NoDatabase)));
    }

    #[test]
    fn the_password_comes_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p"), "hunter 2&\n").unwrap();
        let Location::Postgres(place) =
            Location::parse(folder.path(), "postgres://lm@db/lm", Some(Path::new("p")), None).unwrap()
        else {
            panic!("not a database");
        };
        let password = place.password().unwrap();
        let options = place.options(password.as_ref()).unwrap();
        let found = options
            .database_url
            .query_pairs()
            .find(|(key, _)| key == "password");
        assert_eq!(found.unwrap().1, "hunter 2&");
        assert!(!format!("{place:?}").contains("hunter"));
    }
}

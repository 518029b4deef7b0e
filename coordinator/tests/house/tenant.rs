//! Somebody who speaks to the API of a house, and the settings that it sends.

use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::LeaseView;
use leaseboot_protocol::leases::{BootOrder, EventBatch, LeaseRequest, Prepared, Refusal};
use leaseboot_protocol::settings::{InstallSettings, Requirements};
use reqwest::{Client, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub const KICKSTART: &str =
    "text\nrootpw --iscrypted @sealed:root_password@\npart / --size=1000 --grow\n%packages\nnginx\n%end\n";

/// The protocol's sample with [`KICKSTART`].
pub fn settings() -> InstallSettings {
    let sample = include_str!("../../../protocol/samples/settings.json");
    InstallSettings {
        kickstart: KICKSTART.to_owned(),
        ..serde_json::from_str(sample).unwrap()
    }
}

/// The same with an address of the lease's own: its name ends in eight hexadecimal digits.
pub fn settings_for(lease: &LeaseId) -> InstallSettings {
    let name = lease.as_str();
    let digits = u32::from_str_radix(&name[name.len() - 6..], 16).unwrap();
    let mut settings = settings();
    let [_, a, b, c] = digits.to_be_bytes();
    settings.tunnel.address = format!("10.{a}.{b}.{c}/8").parse().unwrap();
    settings
}

/// Somebody who speaks to the API: a tenant, or a server without certificate.
pub struct Tenant {
    pub client: Client,
    pub base: String,
}

impl Tenant {
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> (StatusCode, String) {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    pub async fn good<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> T {
        let (status, text) = self.ask(method, path, token, body).await;
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    pub async fn refused(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> (StatusCode, Refusal) {
        let (status, text) = self.ask(method, path, token, body).await;
        assert!(!status.is_success(), "{path}: {status}: {text}");
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}")),
        )
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.good(Method::GET, path, None, None::<&()>).await
    }

    pub async fn borrow(&self, request_id: &str) -> LeaseView {
        let request = LeaseRequest {
            request_id: request_id.to_owned(),
            requirements: Requirements::default(),
            term_s: None,
            group: None,
        };
        self.good(Method::POST, "/v1/leases", None, Some(&request)).await
    }

    pub async fn prepare(&self, lease: &LeaseId) -> Prepared {
        self.good(
            Method::PUT,
            &format!("/v1/leases/{lease}/settings"),
            None,
            Some(&settings_for(lease)),
        )
        .await
    }

    pub async fn order_boot(&self, lease: &LeaseId, kickstart_sha256: Sha256) -> LeaseView {
        let order = BootOrder { kickstart_sha256 };
        self.good(
            Method::POST,
            &format!("/v1/leases/{lease}/boot"),
            None,
            Some(&order),
        )
        .await
    }

    pub async fn tell(&self, lease: &LeaseId, word: &str) -> LeaseView {
        self.good(
            Method::POST,
            &format!("/v1/leases/{lease}/{word}"),
            None,
            None::<&()>,
        )
        .await
    }

    pub async fn release(&self, lease: &LeaseId) -> LeaseView {
        self.good(Method::DELETE, &format!("/v1/leases/{lease}"), None, None::<&()>)
            .await
    }

    pub async fn view(&self, lease: &LeaseId) -> LeaseView {
        self.get(&format!("/v1/leases/{lease}")).await
    }

    pub async fn events(&self, lease: &LeaseId, after: u64, wait_s: u64) -> EventBatch {
        self.get(&format!(
            "/v1/leases/{lease}/events?after={after}&wait_s={wait_s}"
        ))
        .await
    }

    /// A lease whose server is being sent through the boot.
    pub async fn boot(&self, request_id: &str) -> LeaseId {
        let lease = self.borrow(request_id).await.id;
        let prepared = self.prepare(&lease).await;
        self.order_boot(&lease, prepared.kickstart_sha256).await;
        lease
    }
}

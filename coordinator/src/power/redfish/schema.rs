//! What is read of Redfish's answers (DMTF DSP2046). Everything may be absent: services leave out what they like.

use crate::power::PowerState;
use crate::power::config::NetworkBoot;
use leaseboot_protocol::hardware::Firmware;
use serde::Deserialize;

/// What is read of a ComputerSystem.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct System {
    pub(super) power_state: Option<String>,
    pub(super) boot: Boot,
    pub(super) actions: Actions,
    #[serde(skip)]
    pub(super) etag: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Boot {
    #[serde(rename = "BootSourceOverrideTarget")]
    pub(super) target: Option<String>,
    #[serde(rename = "BootSourceOverrideTarget@Redfish.AllowableValues")]
    pub(super) targets: Option<Vec<String>>,
    #[serde(rename = "BootSourceOverrideMode")]
    pub(super) mode: Option<String>,
}

/// What is read of the service root.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Root {
    pub(super) links: RootLinks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct RootLinks {
    pub(super) sessions: Link,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Link {
    #[serde(rename = "@odata.id")]
    pub(super) id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Actions {
    #[serde(rename = "#ComputerSystem.Reset")]
    pub(super) reset: Reset,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reset {
    pub(super) target: Option<String>,
    #[serde(rename = "ResetType@Redfish.AllowableValues")]
    pub(super) types: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct Collection {
    #[serde(rename = "Members")]
    pub(super) members: Vec<Member>,
}

#[derive(Deserialize)]
pub(super) struct Member {
    #[serde(rename = "@odata.id")]
    pub(super) id: String,
}

impl Boot {
    /// The override for a network boot: the wanted one, PXE where that is not offered, `None` where there is none.
    pub(super) fn network_target(&self, wanted: NetworkBoot) -> Option<&'static str> {
        let offers = |target: &str| match &self.targets {
            Some(targets) => targets.iter().any(|known| known == target),
            // A service that lists nothing is asked for what is wanted.
            None => true,
        };
        match wanted {
            NetworkBoot::UefiHttp if offers("UefiHttp") => Some("UefiHttp"),
            NetworkBoot::UefiHttp | NetworkBoot::Pxe => offers("Pxe").then_some("Pxe"),
        }
    }

    /// The mode to set along, where the service shows one and the firmware is known or has no choice.
    pub(super) fn mode_to_set(&self, target: &str, firmware: Firmware) -> Option<&'static str> {
        self.mode.as_ref()?;
        match firmware {
            Firmware::Uefi | Firmware::UefiSecureBoot => Some("UEFI"),
            _ if target == "UefiHttp" => Some("UEFI"),
            Firmware::Bios => Some("Legacy"),
            Firmware::Unknown => None,
        }
    }

    /// Some services show an HTTP boot as what it is to them, a kind of PXE.
    pub(super) fn is_set_to_network(&self) -> bool {
        matches!(self.target.as_deref(), Some("Pxe" | "UefiHttp"))
    }
}

impl System {
    pub(super) fn state(&self) -> PowerState {
        match self.power_state.as_deref() {
            Some("On") => PowerState::On,
            Some("Off") => PowerState::Off,
            _ => PowerState::Unknown,
        }
    }

    /// The reset type for a state. Where the system lists what it takes, and `On` is not among it, `ForceOn` means the same.
    pub(super) fn reset_type(&self, wanted: PowerState) -> &'static str {
        let takes = |kind: &str| {
            let listed = self.actions.reset.types.as_ref();
            listed.is_some_and(|listed| listed.iter().any(|known| known == kind))
        };
        match wanted {
            PowerState::On if takes("ForceOn") && !takes("On") => "ForceOn",
            PowerState::On => "On",
            _ => "ForceOff",
        }
    }
}

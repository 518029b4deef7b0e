//! What is read of Redfish's answers (DMTF DSP2046). Everything may be absent: services leave out what they like.

use crate::power::PowerState;
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

//! Power by programs, with a file for a server: it says `on` or `off`.

use super::config;
use crate::power::{PowerController, PowerError, PowerOrder, PowerState};
use leaseboot_protocol::hardware::Firmware;
use std::path::Path;

fn controller(directory: &Path, more: &str) -> PowerController {
    let file = directory.join("power").display().to_string();
    let text = format!(
        "kind = \"command\"\n\
         on = [\"sh\", \"-c\", \"echo on > $0\", \"{file}\"]\n\
         off = [\"sh\", \"-c\", \"echo off > $0\", \"{file}\"]\n\
         status = [\"sh\", \"-c\", \"echo Chassis Power is $(cat $0)\", \"{file}\"]\n\
         patience_s = 2\n{more}"
    );
    PowerController::new(&config(&text), directory).unwrap()
}

fn server() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("power"), "off").unwrap();
    directory
}

#[tokio::test]
async fn orders_are_carried_out_and_seen() {
    let server = server();
    let power = controller(server.path(), "");
    for (order, state) in [
        (PowerOrder::On, PowerState::On),
        (PowerOrder::Off, PowerState::Off),
        (PowerOrder::Cycle, PowerState::On),
        (PowerOrder::NetworkBootOnce, PowerState::On),
    ] {
        power.order(order, Firmware::Unknown).await.unwrap();
        assert_eq!(power.state().await.unwrap(), state, "{order}");
    }
}

#[tokio::test]
async fn the_network_boot_is_chosen_before_the_power_goes_on() {
    let server = server();
    let place = server.path().display();
    let more = format!("network_boot_once = [\"cp\", \"{place}/power\", \"{place}/chosen\"]");
    controller(server.path(), &more)
        .order(PowerOrder::NetworkBootOnce, Firmware::Unknown)
        .await
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(server.path().join("chosen")).unwrap(),
        "off"
    );
}

#[tokio::test]
async fn a_cycle_of_its_own_is_used_on_a_server_that_is_on() {
    let server = server();
    let mark = server.path().join("cycled");
    let more = format!("cycle = [\"touch\", \"{}\"]", mark.display());
    let power = controller(server.path(), &more);
    power.order(PowerOrder::Cycle, Firmware::Unknown).await.unwrap();
    assert!(!mark.exists(), "a server that is off is switched on");
    power.order(PowerOrder::Cycle, Firmware::Unknown).await.unwrap();
    assert!(mark.exists());
}

#[tokio::test]
async fn a_state_that_does_not_follow_is_an_error() {
    let server = server();
    let broken = controller(server.path(), "");
    std::fs::remove_file(server.path().join("power")).unwrap();
    std::fs::create_dir(server.path().join("power")).unwrap();
    assert!(matches!(
        broken.order(PowerOrder::On, Firmware::Unknown).await,
        Err(PowerError::Failed { .. })
    ));

    let stubborn = "kind = \"command\"\non = [\"true\"]\noff = [\"true\"]\nstatus = [\"echo\", \"Off.\"]\npatience_s = 1";
    let power = PowerController::new(&config(stubborn), server.path()).unwrap();
    let error = power.order(PowerOrder::On, Firmware::Unknown).await.unwrap_err();
    assert!(
        matches!(
            error,
            PowerError::NotReached {
                wanted: PowerState::On,
                seen: PowerState::Off,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn programs_that_fail_hang_or_are_missing_are_named() {
    let server = server();
    let run = async |on: &str| {
        let text = format!("kind = \"command\"\non = {on}\noff = [\"true\"]\npatience_s = 1");
        let power = PowerController::new(&config(&text), server.path()).unwrap();
        assert_eq!(power.state().await.unwrap(), PowerState::Unknown);
        power.order(PowerOrder::On, Firmware::Unknown).await
    };
    run("[\"true\"]").await.unwrap();
    let failed = run("[\"sh\", \"-c\", \"echo no such chassis >&2; exit 3\"]")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        failed.contains("no such chassis") && failed.contains('3'),
        "{failed}"
    );
    assert!(matches!(
        run("[\"sleep\", \"600\"]").await,
        Err(PowerError::Stuck { .. })
    ));
    assert!(matches!(
        run("[\"/nonexistent/ipmitool\"]").await,
        Err(PowerError::Run { .. })
    ));
    run("[\"sh\", \"-c\", \"yes | head -c 3000000\"]").await.unwrap();
}

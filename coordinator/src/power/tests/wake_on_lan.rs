//! Wake-on-LAN, with a socket for the card and a file for the server.

use super::{config, write_private};
use crate::power::{PowerController, PowerError, PowerOrder, PowerState};
use leaseboot_protocol::hardware::Firmware;
use tokio::net::UdpSocket;

async fn card() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let text = format!(
        "kind = \"wake-on-lan\"\nmac = \"52:54:00:00:00:07\"\nto = \"{}\"\npatience_s = 10\n",
        socket.local_addr().unwrap()
    );
    (socket, text)
}

#[tokio::test]
async fn a_card_is_woken_and_nothing_else_is_promised() {
    let directory = tempfile::tempdir().unwrap();
    write_private(&directory.path().join("secure-on"), "01:02:03:04:05:06\n");
    let (socket, text) = card().await;
    let text = format!("{text}password_file = \"secure-on\"");
    let power = PowerController::new(&config(&text), directory.path()).unwrap();
    power.order(PowerOrder::On, Firmware::Unknown).await.unwrap();
    let mut packet = [0; 200];
    let length = socket.recv(&mut packet).await.unwrap();
    assert_eq!(packet[..6], [0xff; 6]);
    assert_eq!(packet[6..12], [0x52, 0x54, 0, 0, 0, 7]);
    assert_eq!(packet[length - 6..length], [1, 2, 3, 4, 5, 6]);
    assert_eq!(power.state().await.unwrap(), PowerState::Unknown);
    for order in [PowerOrder::Off, PowerOrder::Cycle] {
        let error = power.order(order, Firmware::Unknown).await.unwrap_err();
        assert!(matches!(error, PowerError::Unable { .. }) && !error.may_pass());
        assert!(error.to_string().contains("power.off"), "{error}");
    }
}

#[tokio::test]
async fn the_packet_is_sent_until_the_other_controller_sees_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("power");
    std::fs::write(&file, "on").unwrap();
    let (socket, text) = card().await;
    let file_name = file.display();
    let text = format!(
        "{text}[off]\nkind = \"command\"\non = [\"false\"]\n\
         off = [\"sh\", \"-c\", \"echo off > $0\", \"{file_name}\"]\nstatus = [\"cat\", \"{file_name}\"]\n"
    );
    let power = PowerController::new(&config(&text), directory.path()).unwrap();
    // The card misses the first packet.
    let woken = async {
        let mut packet = [0; 200];
        for _ in 0..2 {
            socket.recv(&mut packet).await.unwrap();
        }
        std::fs::write(&file, "on").unwrap();
    };
    let (ordered, ()) = tokio::join!(power.order(PowerOrder::NetworkBootOnce, Firmware::Unknown), woken);
    ordered.unwrap();
    assert_eq!(power.state().await.unwrap(), PowerState::On);
}

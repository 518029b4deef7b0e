//! After the installation, with the network still first in the boot order: the LM's script sends the server straight to its disk.
//!
//! The installer here is the tiny image: it registers the member's key, which tells both managers that the installation is complete, and
//! restarts. The system on the disk was put there before; on UEFI the image leaves the boot entry that installers leave.

use anyhow::Result;
use leaseboot_protocol::archive::Archive;
use leaseboot_tests::folders::Folders;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::machine::Firmware;
use leaseboot_tests::servers::Server;
use leaseboot_tests::system_disk::{self, BIOS_SAYS, ENTRY_NAME, ENTRY_SAYS, GRUB_SAYS, Loader};
use leaseboot_tests::tiny_image::{self, Packing};

const IMAGE: &str = "complete";
/// What both scripts say.
const SENT: &str = "boots from its own disk";

#[tokio::test]
async fn bios_goes_on_to_the_disk_by_ipxe() -> Result<()> {
    let plan = Plan::named("boot-order-ipxe").without_installer();
    goes_on_to_the_disk(plan, Loader::Fallback, BIOS_SAYS).await
}

#[tokio::test]
async fn bios_goes_on_to_the_disk_by_grub() -> Result<()> {
    let plan = Plan::named("boot-order-grub").without_installer().by_grub();
    goes_on_to_the_disk(plan, Loader::Fallback, BIOS_SAYS).await
}

/// The entry that the installer left is kept, and it alone finds the system.
#[tokio::test]
async fn uefi_goes_on_to_the_entry_of_the_installer_by_ipxe() -> Result<()> {
    goes_on_to_the_disk(uefi("boot-order-entry"), Loader::Entry, ENTRY_SAYS).await
}

/// Nobody left an entry: GRUB finds the loader on the disk.
#[tokio::test]
async fn uefi_goes_on_to_a_disk_without_an_entry_by_grub() -> Result<()> {
    goes_on_to_the_disk(uefi("boot-order-no-entry"), Loader::Fallback, GRUB_SAYS).await
}

fn uefi(name: &str) -> Plan {
    let mut server = Server::numbered(1);
    server.hardware.firmware = Firmware::Uefi;
    Plan::named(name).servers(vec![server]).without_installer()
}

async fn goes_on_to_the_disk(plan: Plan, loader: Loader, says: &str) -> Result<()> {
    plan.run(async |lab| {
        let folders = Folders::find()?;
        let machine = lab.machine().clone();
        if loader == Loader::Entry {
            lab.lm.stop().await?;
            lab.lm.configure(first_loader_ipxe)?;
            lab.lm.start().await?;
        }
        let program = match loader {
            Loader::Entry => "vmlinuz",
            Loader::Fallback => "grub/core.efi",
        };
        system_disk::prepare(&machine.disk_files()[0], &folders.image().join(program), loader).await?;
        let mut image = tiny_image::archive_ending(&folders, 0, &ending(loader)).await?;
        let mut entry = Archive::new();
        entry.file("system-entry", 0o600, system_disk::boot_entry())?;
        image.extend(entry.to_bytes());
        tiny_image::add_profile(&lab.po, IMAGE, &Packing::Zstd.pack(&image).await?, &[])?;

        let mut borrowing = lab.borrow(IMAGE)?;
        let serial = machine.serial();
        borrowing
            .during(serial.wait_for("scenario: complete", 2 * CHAIN))
            .await?;
        let mark = serial.mark();
        borrowing.during(serial.wait_for_after(mark, SENT, CHAIN)).await?;
        let mark = serial.mark();
        borrowing.during(serial.wait_for_after(mark, says, CHAIN)).await?;
        assert_eq!(machine.starts(), 1, "the power was touched");
        Ok(())
    })
    .await
}

/// UEFI's PXE client is sent iPXE instead of GRUB.
fn first_loader_ipxe(config: &mut toml::Table) {
    let dhcp = config.get_mut("dhcp").and_then(toml::Value::as_table_mut);
    if let Some(dhcp) = dhcp {
        dhcp.insert("first_loader".to_owned(), "ipxe".into());
    }
}

/// The end of the installation, as lines of the image's init.
fn ending(loader: Loader) -> String {
    let entry = match loader {
        Loader::Entry => format!(
            "$bb cat /system-entry > $variables/{ENTRY_NAME} && echo \"scenario: left the system's entry\"\n\
             order=$variables/BootOrder-{}\n\
             ($bb cat $order; $bb printf '\\103\\0') > /order\n\
             $bb dd if=/order of=$order bs=4096\n",
            &ENTRY_NAME["Boot0043-".len()..]
        ),
        Loader::Fallback => String::new(),
    };
    format!(
        "{entry}$bb mkdir -p /target/etc\n\
         /run/leaseboot/agent member install --root /target && echo \"scenario: complete\"\n\
         exec $bb reboot -f\n"
    )
}

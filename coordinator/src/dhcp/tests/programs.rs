//! Which boot program goes to whom, and what else firmware wants to see.

use super::*;

#[test]
fn each_client_gets_the_program_that_it_can_run() {
    let pxe = |numbers: &[u16]| [class("PXEClient:Arch:00000:UNDI:002001"), architectures(numbers)];
    let grub = DhcpConfig::default();
    let ipxe = DhcpConfig {
        first_loader: FirstLoader::Ipxe,
        ..DhcpConfig::default()
    };
    for (config, numbers, expected) in [
        (&grub, &[0][..], Some("grub/core.0")),
        (&grub, &[7], Some("grub/core.efi")),
        (&grub, &[9], Some("grub/core.efi")),
        // A list: the first that we know. dhcproto's own decoder would lose step here.
        (&grub, &[6, 7], Some("grub/core.efi")),
        (&grub, &[6], None),
        (&grub, &[11], None),
        (&ipxe, &[0], Some("ipxe/undionly.kpxe")),
        (&ipxe, &[7], Some("ipxe/snponly.efi")),
    ] {
        assert_eq!(
            boot_file(config.clone(), pxe(numbers)).as_deref(),
            expected,
            "{numbers:?}"
        );
    }
    let named_only = [class("PXEClient:Arch:00007:UNDI:003000")];
    assert_eq!(
        boot_file(grub.clone(), named_only).as_deref(),
        Some("grub/core.efi")
    );
    assert_eq!(boot_file(grub.clone(), [class("leaseboot")]), None);
    assert_eq!(boot_file(grub, []), None);
}

#[test]
fn ipxe_gets_its_servers_script_or_grub() {
    let bare = DhcpOption::UserClass(b"iPXE".to_vec());
    let by_the_rfc = DhcpOption::UserClass(b"\x01x\x04iPXE".to_vec());
    let script = "http://10.10.0.1/boot/ipxe/52:54:00:00:00:11.ipxe";
    for user_class in [bare.clone(), by_the_rfc] {
        let options = [
            class("PXEClient:Arch:00000:UNDI:002001"),
            user_class,
            architectures(&[0]),
        ];
        assert_eq!(boot_file(DhcpConfig::default(), options).as_deref(), Some(script));
    }
    let chain = DhcpConfig {
        ipxe_chain: IpxeChain::Grub,
        ..DhcpConfig::default()
    };
    let efi = [bare.clone(), architectures(&[7])];
    assert_eq!(boot_file(chain.clone(), efi).as_deref(), Some("grub/core.efi"));
    assert_eq!(boot_file(chain, [bare]).as_deref(), Some("grub/core.0"));
    let not_ipxe = [DhcpOption::UserClass(b"\xffiPXE".to_vec()), class("PXEClient")];
    assert_eq!(
        boot_file(DhcpConfig::default(), not_ipxe).as_deref(),
        Some("grub/core.0")
    );
}

#[test]
fn uefi_http_boot_gets_a_url_and_its_own_class_back() {
    let options = [class("HTTPClient:Arch:00016:UNDI:003001"), architectures(&[16])];
    let offer = ask(&mut server(), &message(KNOWN, MessageType::Discover, options)).unwrap();
    assert_eq!(
        offer.boot_file().as_deref(),
        Some("http://10.10.0.1/boot/files/ab/core.efi")
    );
    assert_eq!(
        offer.option(OptionCode::ClassIdentifier),
        Some(&class("HTTPClient"))
    );
}

#[test]
fn identifiers_come_back_as_they_were_sent() {
    let machine = DhcpOption::ClientMachineIdentifier([vec![0], vec![7; 16]].concat());
    let client = DhcpOption::ClientIdentifier(vec![1, 2, 3]);
    let options = [class("PXEClient"), machine.clone(), client.clone()];
    let offer = ask(&mut server(), &message(KNOWN, MessageType::Discover, options)).unwrap();
    assert_eq!(offer.option(OptionCode::ClientMachineIdentifier), Some(&machine));
    assert_eq!(offer.option(OptionCode::ClientIdentifier), Some(&client));
}

#[test]
fn the_largest_answer_fits_into_the_smallest_packet() {
    let config = DhcpConfig {
        name_servers: vec![SERVER; 3],
        pool: Some(pool()),
        ..DhcpConfig::default()
    };
    let mut server = Dhcp::new(DhcpSettings {
        http_loaders: [(
            "grub/core.efi".to_owned(),
            format!("http://255.255.255.255/boot/files/{}/core.efi", "a".repeat(64)),
        )]
        .into(),
        ..settings(config)
    });
    let options = [
        class("HTTPClient:Arch:00016:UNDI:003001"),
        architectures(&[16]),
        DhcpOption::ClientMachineIdentifier(vec![7; 17]),
        DhcpOption::ClientIdentifier(vec![7; 17]),
    ];
    assert!(
        ask(&mut server, &message(KNOWN, MessageType::Discover, options))
            .unwrap()
            .boot_file()
            .is_some()
    );
}

#[test]
fn the_rarer_architectures_get_theirs_when_it_is_there() {
    let with = |loaders: &[&str]| {
        let loaders = loaders.iter().map(|name| (*name).to_owned());
        let urls = ["grub/core-ia32.efi", "grub/core-arm64.efi"]
            .map(|name| (name.to_owned(), format!("http://lm/{name}")));
        Dhcp::new(DhcpSettings {
            loaders: loaders.collect(),
            http_loaders: urls.into(),
            ..settings(DhcpConfig::default())
        })
    };
    let all = ["grub/core.efi", "grub/core-ia32.efi", "grub/core-arm64.efi"];
    for (kind, number, expected) in [
        ("PXEClient", 6, "grub/core-ia32.efi"),
        ("PXEClient", 11, "grub/core-arm64.efi"),
        ("HTTPClient", 15, "http://lm/grub/core-ia32.efi"),
        ("HTTPClient", 19, "http://lm/grub/core-arm64.efi"),
    ] {
        let discover = message(
            KNOWN,
            MessageType::Discover,
            [class(kind), architectures(&[number])],
        );
        let offer = ask(&mut with(&all), &discover).unwrap();
        assert_eq!(offer.boot_file().as_deref(), Some(expected), "{number}");
        // Without it: an address, and no program that it could not run.
        assert_eq!(
            ask(&mut with(&all[..1]), &discover).unwrap().boot_file(),
            None,
            "{number}"
        );
    }
}

#[test]
fn ipxe_is_known_by_its_own_options_too() {
    let options = [
        class("PXEClient:Arch:00000:UNDI:002001"),
        DhcpOption::Unknown(UnknownOption::new(OptionCode::from(175), vec![177, 1, 1])),
    ];
    let program = boot_file(DhcpConfig::default(), options).unwrap();
    assert!(program.ends_with(".ipxe"), "{program}");
}

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
        Some("http://10.10.0.1/grub/core.efi")
    );
    assert_eq!(
        offer.option(OptionCode::ClassIdentifier),
        Some(&class("HTTPClient"))
    );
}

#[test]
fn a_tls_front_takes_the_place_of_our_own_http() {
    let with = |url: &str| DhcpConfig {
        http_boot_url: Some(url.to_owned()),
        ..DhcpConfig::default()
    };
    let options = [class("HTTPClient:Arch:00016:UNDI:003001"), architectures(&[16])];
    let program = boot_file(with("https://boot.lender.example"), options);
    assert_eq!(
        program.as_deref(),
        Some("https://boot.lender.example/grub/core.efi")
    );
    for url in [
        "boot.lender.example",
        "https://",
        "https://a/",
        "ftp://a",
        "https://a b",
    ] {
        assert!(matches!(
            settings(with(url)).check(),
            Err(DhcpSettingsError::HttpBootUrl { .. })
        ));
    }
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
        http_base: "http://255.255.255.255:65535".to_owned(),
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
        Dhcp::new(DhcpSettings {
            loaders: loaders.collect(),
            http_base: "http://lm".to_owned(),
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
fn a_servers_own_loader_goes_before_its_architectures_and_that_before_all() {
    let config = DhcpConfig {
        architecture: ArchitectureLoaders {
            efi64: Some(FirstLoader::Shim),
            ..ArchitectureLoaders::default()
        },
        ..DhcpConfig::default()
    };
    let mut server = Dhcp::new(DhcpSettings {
        loaders: [
            "grub/core.0",
            "grub/core.efi",
            "ipxe/ipxe.efi",
            "shim/shimx64.efi",
        ]
        .map(str::to_owned)
        .into(),
        ..settings(config)
    });
    let own = |first_loader| Card {
        address6: None,
        choice: LoaderChoice {
            first_loader,
            ipxe_chain: None,
        },
        ..directory(KNOWN).unwrap()
    };
    for (kind, number, first_loader, expected) in [
        ("PXEClient", 7, None, "shim/shimx64.efi"),
        ("PXEClient", 0, None, "grub/core.0"),
        ("PXEClient", 7, Some(FirstLoader::IpxeDrivers), "ipxe/ipxe.efi"),
        // Nothing is to be checked in a BIOS.
        ("PXEClient", 0, Some(FirstLoader::Shim), "grub/core.0"),
        // Not among the boot files.
        ("PXEClient", 7, Some(FirstLoader::Ipxe), "grub/core.efi"),
    ] {
        let discover = message(
            KNOWN,
            MessageType::Discover,
            [class(kind), architectures(&[number])],
        );
        let datagram = discover.to_vec().unwrap();
        let card = |_| Some(own(first_loader));
        let reply = handle_datagram(&mut server, &datagram, card, Instant::now()).unwrap();
        let bytes = reply.unwrap().bytes;
        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        let Some(DhcpOption::BootfileName(name)) = message.opts().get(OptionCode::BootfileName) else {
            panic!("no boot program for {number}");
        };
        assert_eq!(
            String::from_utf8_lossy(name),
            expected,
            "{number} {first_loader:?}"
        );
    }
}

#[test]
fn the_shim_is_not_sent_by_http_where_its_grub_could_not_go_on() {
    let config = DhcpConfig {
        first_loader: FirstLoader::Shim,
        ..DhcpConfig::default()
    };
    let options = [class("HTTPClient:Arch:00016:UNDI:003001"), architectures(&[16])];
    assert_eq!(boot_file(config, options), None);
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

use super::*;
use crate::dhcp::{FirstLoader, IpxeChain};

const LM: &str = "interface = \"br0\"\naddress = \"10.10.0.1/24\"\nrouter = \"10.10.0.1\"\n";
const POWER: &str = "[server.power]\nkind = \"command\"\non = [\"true\"]\noff = [\"true\"]\n";

fn load(lm: &str, servers: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lm.toml"), lm).unwrap();
    std::fs::write(folder.path().join("servers.toml"), servers).unwrap();
    Config::load(&folder.path().join("lm.toml"))
}

fn server(lines: &str) -> String {
    format!("[[server]]\n{lines}\n{POWER}")
}

const GOOD: &str = "name = \"a\"\nmac = \"52:54:00:00:00:01\"\naddress = \"10.10.0.11\"";

/// File, line and words of the error.
fn refused(lm: &str, servers: &str) -> (String, usize, String) {
    match load(lm, servers) {
        Err(ConfigError::Line {
            path,
            line,
            problem,
            text,
        }) => {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            (file, line, format!("{problem} | {text}"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_configuration_has_its_defaults() {
    let config = load(LM, &server(GOOD)).unwrap();
    assert_eq!(config.api_url(), "https://10.10.0.1:8443");
    assert_eq!(config.rules, Rules::default());
    let server = &config.servers[&"a".parse().unwrap()];
    assert_eq!(server.place.address.to_string(), "10.10.0.11/24");
    assert_eq!(server.place.router, Some("10.10.0.1".parse().unwrap()));
    assert!(server.wiped && server.hardware.is_none());
    assert!(matches!(config.store, Location::Sqlite(ref path) if path.file_name().unwrap() == "lm.sqlite"));
}

#[test]
fn errors_of_lm_toml_name_line_and_value() {
    for (lm, line, words) in [
        (format!("{LM}colour = 1"), 4, "unknown field `colour`"),
        (format!("{LM}[deadlines]\nbooting = 0"), 5, "booting = 0"),
        (
            format!("{LM}[deadlines]\nbotting = 3"),
            5,
            "unknown field `botting`",
        ),
        (format!("{LM}[api]\nport = 1"), 5, "unknown field `port`"),
        (
            LM.replace("10.10.0.1/24", "10.10.0.0/24"),
            2,
            "not a host's address",
        ),
        (
            LM.replace("router = \"10.10.0.1\"", "router = \"10.11.0.1\""),
            3,
            "not in the network 10.10.0.0/24",
        ),
        (LM.replace("br0", "a/b"), 1, "is not an interface"),
        (
            format!("{LM}store = \"postgres://lm:hunter2@db/lm\""),
            4,
            "contains a password",
        ),
        (
            format!("{LM}store = \"lm.sqlite\"\nstore_password_file = \"p\""),
            4,
            "an SQLite file has neither password nor certificate",
        ),
        (format!("{LM}mtu = 100"), 4, "mtu 100"),
        (format!("{LM}attempts = 0"), 4, "attempts = 0"),
        (format!("{LM}["), 4, "["),
    ] {
        let (file, found, said) = refused(&lm, "");
        assert_eq!((file.as_str(), found), ("lm.toml", line), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn errors_of_servers_toml_name_line_and_value() {
    let twice = |lines: &str| format!("{}{}", server(GOOD), server(lines));
    let hardware = |lines: &str| format!("{}[server.hardware]\n{lines}\n", server(GOOD));
    for (servers, line, words) in [
        (server(&format!("{GOOD}\nrack = 1")), 5, "unknown field `rack`"),
        (
            server(&GOOD.replace("\"a\"", "\"A b\"")),
            2,
            "not a valid server name",
        ),
        (server(&GOOD.replace(":01", "")), 3, "not a MAC address"),
        (
            server(&GOOD.replace("10.10.0.11", "10.10.1.11")),
            4,
            "not in the lender's network",
        ),
        (
            server(&GOOD.replace("10.10.0.11", "10.10.0.1")),
            4,
            "own: choose another",
        ),
        (twice(GOOD), 10, "a belongs to the server a of line 1"),
        (
            twice(&GOOD.replace("\"a\"", "\"b\"")),
            11,
            "52:54:00:00:00:01 belongs to the server a",
        ),
        (
            server(&format!("{GOOD}\nconsole = \"ttyS0 115200\"")),
            5,
            "cannot stand on a kernel command line",
        ),
        (hardware("memory = 3"), 9, "unknown key hardware.memory"),
        (
            hardware("[[server.hardware.disks]]\nsize = 3"),
            9,
            "unknown key hardware.disks.size",
        ),
        (
            server(GOOD).replace("\"command\"", "\"telegraph\""),
            1,
            "telegraph",
        ),
    ] {
        let (file, found, said) = refused(LM, &servers);
        assert!(said.contains(words), "{said}");
        assert_eq!(file, "servers.toml");
        if words != "telegraph" {
            assert_eq!(found, line, "{said}\n{servers}");
        }
    }
}

#[test]
fn loaders_are_chosen_for_all_by_architecture_by_label_and_by_server() {
    let dhcp = "[dhcp]\nfirst_loader = \"ipxe\"\narchitecture = { efi64 = \"shim\" }\n\
        [[dhcp.loader]]\nwhere = \"model = r640\"\nfirst_loader = \"ipxe-drivers\"\n";
    let lm = format!("{LM}{dhcp}");
    let config = load(&lm, &server(&format!("{GOOD}\nipxe_chain = \"grub\""))).unwrap();
    assert_eq!(config.dhcp.first_loader, FirstLoader::Ipxe);
    assert_eq!(config.dhcp.architecture.efi64, Some(FirstLoader::Shim));
    assert_eq!(
        config.dhcp.loader_rules[0].first_loader,
        Some(FirstLoader::IpxeDrivers)
    );
    let loaders = config.servers[&"a".parse().unwrap()].loaders;
    assert_eq!(
        (loaders.first_loader, loaders.ipxe_chain),
        (None, Some(IpxeChain::Grub))
    );
    for (from, to, words) in [
        ("efi64", "efi128", "unknown field `efi128`"),
        ("\"shim\"", "\"shin\"", "unknown variant `shin`"),
        ("model = r640", "model = ", "model"),
        (
            "first_loader = \"ipxe-drivers\"",
            "loader = \"ipxe\"",
            "unknown field `loader`",
        ),
    ] {
        let (file, _, said) = refused(&lm.replacen(from, to, 1), "");
        assert_eq!(file, "lm.toml");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn an_address_of_the_pool_is_nobodys() {
    let lm = format!("{LM}[dhcp]\npool = {{ first = \"10.10.0.10\", last = \"10.10.0.20\" }}");
    assert!(
        refused(&lm, &server(GOOD))
            .2
            .contains("lies in its network's pool")
    );
}

#[test]
fn a_server_behind_a_relay_stands_in_its_subnet() {
    let lm = format!("{LM}[[subnet]]\nnetwork = \"10.20.0.0/26\"\nrouter = \"10.20.0.1\"\n");
    let servers = server(GOOD).replace("10.10.0.11", "10.20.0.11");
    assert!(refused(LM, &servers).2.contains("nor in a [[subnet]]"));
    let config = load(&lm, &servers).unwrap();
    let place = &config.servers.values().next().unwrap().place;
    assert_eq!(place.address.to_string(), "10.20.0.11/26");
    assert_eq!(place.router, Some("10.20.0.1".parse().unwrap()));
}

#[test]
fn a_server_may_stand_behind_a_tag_once_firmware_is_done() {
    let tagged = |words: &str| server(&format!("{GOOD}\n[server.tagged]\n{words}"));
    let good = "vlan = 20\naddress = \"10.30.0.11/24\"\nrouter = \"10.30.0.1\"";
    let config = load(LM, &tagged(good)).unwrap();
    let server = &config.servers[&"a".parse().unwrap()];
    let place = server.lent_place();
    assert_eq!(
        (place.address.to_string().as_str(), place.vlan, place.mac),
        ("10.30.0.11/24", Some(20), server.place.mac)
    );
    assert_eq!(server.place.vlan, None);
    for (from, to, words) in [
        ("20", "4095", "not between 1 and 4094"),
        ("10.30.0.11", "10.30.0.0", "not a host's address"),
        ("10.30.0.11", "10.10.0.12", "without a tag"),
        ("10.30.0.1\"", "10.31.0.1\"", "router 10.31.0.1"),
        ("vlan", "vlann", "unknown field"),
    ] {
        let (file, _, problem) = refused(LM, &tagged(&good.replacen(from, to, 1)));
        assert!(file == "servers.toml" && problem.contains(words), "{problem}");
    }
}

#[test]
fn a_wire_of_ipv6_is_checked_with_its_servers() {
    let lm = format!(
        "{LM}[dhcp6]\naddress = \"fd00:10::1/64\"\npool = {{ first = \"fd00:10::100\", last = \"fd00:10::1ff\" }}\n"
    );
    let with = |address: &str| server(&format!("{GOOD}\naddress6 = \"{address}\""));
    let config = load(&lm, &with("fd00:10::11")).unwrap();
    let server_address = "fd00:10::11".parse().unwrap();
    assert_eq!(config.api_url_for(server_address), "https://[fd00:10::1]:8443");
    assert_eq!(config.api_listen6().unwrap().to_string(), "[fd00:10::1]:8443");
    assert_eq!(load(LM, &server(GOOD)).unwrap().api_listen6(), None);
    for (lm, address, words) in [
        (LM, "fd00:10::11", "no [dhcp6] table"),
        (&lm[..], "fd00:11::11", "in no network of [dhcp6]"),
        (&lm, "fd00:10::1", "the lease manager's"),
        (&lm, "fd00:10::1aa", "DHCPv6 pool"),
    ] {
        let (file, _, problem) = refused(lm, &with(address));
        assert!(file == "servers.toml" && problem.contains(words), "{problem}");
    }
    let (file, line, problem) = refused(&lm.replace("::1ff", "::ffff"), &server(GOOD));
    assert!(
        file == "lm.toml" && line >= 4 && problem.contains("1024 addresses"),
        "{file}:{line}: {problem}"
    );
    let (_, line, problem) = refused(&lm.replace("pool", "pol"), &server(GOOD));
    assert!(
        line == 6 && problem.contains("unknown field `pol`"),
        "{line}: {problem}"
    );
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let error = Config::load(Path::new("/nonexistent/lm.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nonexistent/lm.toml") && error.contains("leaseboot-lm init"),
        "{error}"
    );
}

const LABELLED: &str = "# our rack
name, mac, address, wiped, labels.rack, power.kind, power.on, power.off

a, 52:54:00:00:00:01, 10.10.0.11, false, a1, command, [\"true\"], [\"true\"]
b, 52:54:00:00:00:02, 10.10.0.12, ,\"say \"\"x\", command, [\"true\"], [\"true\"]
";

fn import(table: &str) -> Result<BTreeMap<ServerId, Server>, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lm.toml"), LM).unwrap();
    std::fs::write(folder.path().join("servers.toml"), "").unwrap();
    let path = folder.path().join("rack.csv");
    std::fs::write(&path, table).unwrap();
    Config::load(&folder.path().join("lm.toml"))
        .unwrap()
        .read_servers(&path)
}

#[test]
fn a_table_declares_servers_as_the_file_does() {
    let error = import(LABELLED).unwrap_err().to_string();
    assert!(error.contains("rack.csv:5: the label \"rack\""), "{error}");
    let servers = import(&LABELLED.replace("\"say \"\"x\"", "b 1")).unwrap();
    let server = |name: &str| &servers[&name.parse().unwrap()];
    assert!(!server("a").wiped && server("b").wiped);
    assert_eq!(server("a").labels["rack"], "a1");
    assert_eq!(server("b").labels["rack"], "b 1");
    assert!(server("a").folder.is_absolute());
}

#[test]
fn errors_of_a_table_name_its_line() {
    for (table, words) in [
        ("name,mac\na,b\n", "rack.csv:2: "),
        (
            "name,mac\n\na,52:54:00:00:00:01,x\n",
            "rack.csv:3: the row has 3 cells",
        ),
        (
            "name,colour of it\na,b\n",
            "rack.csv:1: \"colour of it\" is not a column",
        ),
        (
            &LABELLED
                .replace("10.10.0.12", "10.10.0.11")
                .replace("\"say \"\"x\"", "x"),
            "rack.csv:5: 10.10.0.11 belongs to the server a of line 4",
        ),
    ] {
        let error = import(table).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

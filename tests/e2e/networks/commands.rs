//! `network` commands.

use super::*;
use crate::serve::Server;

#[test]
fn network_commands_are_dockers() {
    let hull = Hull::shared();
    let net = Net::new(
        &hull,
        "listed-net",
        &["--label", "team=blue", "--subnet", "10.78.0.0/16"],
    );
    let list = hull.ok(&[
        "network",
        "ls",
        "--format",
        "{{.Name}} {{.Driver}} {{.Scope}}",
    ]);
    assert!(list.contains("bridge bridge local") && list.contains("listed-net bridge local"));
    let table = hull.ok(&["network", "ls", "--filter", "label=team=blue"]);
    assert!(
        table.starts_with("NETWORK ID     NAME         DRIVER    SCOPE\n"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 2, "{table}");
    let container = hull.ok(&[
        "create",
        "--network",
        net.name,
        "--ip",
        "10.78.1.2",
        "busybox",
    ]);
    let config = hull.ok(&[
        "network",
        "inspect",
        "-f",
        "{{json .IPAM.Config}}",
        net.name,
    ]);
    assert_eq!(
        config,
        r#"[{"Subnet":"10.78.0.0/16","Gateway":"10.78.0.1"}]"#
    );
    // Addresses belong to one container, also while it does not run.
    let again = [
        "run",
        "--rm",
        "--network",
        net.name,
        "--ip",
        "10.78.1.2",
        "busybox",
        "true",
    ];
    assert!(hull.fails(&again, 125).contains("Address already in use"));
    let elsewhere = [
        "run",
        "--rm",
        "--network",
        net.name,
        "--ip",
        "10.79.0.2",
        "busybox",
        "true",
    ];
    assert!(
        hull.fails(&elsewhere, 125)
            .contains("does not belong to the subnet")
    );
    let default = ["run", "--rm", "--ip", "172.17.0.9", "busybox", "true"];
    assert!(
        hull.fails(&default, 125)
            .contains("user defined networks only")
    );
    assert!(
        hull.fails(&["network", "rm", net.name], 1)
            .contains("has containers")
    );
    assert!(
        hull.fails(&["network", "create", net.name], 1)
            .contains("already exists")
    );
    let overlap = [
        "network",
        "create",
        "--subnet",
        "10.78.9.0/24",
        "overlapping",
    ];
    assert!(hull.fails(&overlap, 1).contains("Pool overlaps"));
    assert!(
        hull.fails(&["network", "rm", "bridge"], 1)
            .contains("pre-defined")
    );
    assert!(
        hull.fails(&["network", "inspect", "nope"], 1)
            .contains("network nope not found")
    );
    hull.ok(&["rm", &container]);
    assert_eq!(hull.ok(&["network", "rm", net.name]), net.name);
    for network in ["host", "container:x"] {
        let error = hull.fails(
            &["run", "--rm", "--network", network, "busybox", "true"],
            125,
        );
        assert!(error.contains("is not possible"), "{error}");
    }
}

#[test]
fn unused_networks_are_pruned() {
    let hull = Hull::fresh();
    hull.ok(&["network", "create", "unused"]);
    hull.ok(&["network", "create", "used"]);
    hull.ok(&["create", "-q", "--network", "used", "busybox"]);
    let kept = hull.ok(&["network", "prune", "-f", "--filter", "label=other"]);
    assert_eq!(kept, "");
    assert_eq!(
        hull.ok(&["network", "prune", "-f"]),
        "Deleted Networks:\nunused"
    );
    assert_eq!(
        hull.ok(&["network", "ls", "--format", "{{.Name}}"]),
        "bridge\nused"
    );
}

#[test]
fn addresses_can_be_kept_free() {
    let hull = Hull::shared();
    let aux = [
        "--subnet",
        "10.79.0.0/24",
        "--aux-address",
        "router=10.79.0.2",
    ];
    let net = Net::new(&hull, "aux-net", &aux);
    let config = "{{json (index .IPAM.Config 0).AuxiliaryAddresses}}";
    let config = hull.ok(&["network", "inspect", "-f", config, net.name]);
    assert_eq!(config, r#"{"router":"10.79.0.2"}"#);
    // Docker's own command line says the same.
    let server = Server::new(&hull);
    let create = ["network", "create", "--subnet", "10.80.0.0/24"];
    server.ok(&[
        &create[..],
        &["--aux-address", "r=10.80.0.9", "aux-api-net"],
    ]
    .concat());
    let config = "{{json (index .IPAM.Config 0).AuxiliaryAddresses}}";
    let config = hull.ok(&["network", "inspect", "-f", config, "aux-api-net"]);
    server.ok(&["network", "rm", "aux-api-net"]);
    assert_eq!(config, r#"{"r":"10.80.0.9"}"#);
    let first = hull.background(&["--network", net.name, "busybox", "sleep", "1000"]);
    assert_eq!(address(&hull, &first.id, net.name), "10.79.0.3");
    let taken = [
        "create",
        "--network",
        net.name,
        "--ip",
        "10.79.0.2",
        "busybox",
    ];
    assert!(hull.fails(&taken, 125).contains("Address already in use"));
    drop(first);
    for (more, said) in [
        (
            ["--aux-address", "x=10.80.0.1"],
            "does not belong to a subnet",
        ),
        (["--aux-address", "10.79.0.2"], "use NAME=ADDRESS"),
        (["--ipam-driver", "other"], "use default"),
        (["--scope", "swarm"], "use local"),
    ] {
        let refused = hull.fails(
            &[&["network", "create"], &more[..], &["no-net"]].concat(),
            1,
        );
        assert!(refused.contains(said), "{refused}");
    }
}

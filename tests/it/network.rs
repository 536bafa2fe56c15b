//! What a node's network is like after `hapilot __network`, judged by `ip`, `nft` and packets, in namespaces.

use super::support::haproxy::binaries;
use super::support::net::{Net, has};
use super::support::process::{Background, Finished};
use super::support::{PATIENCE, is_root, skip_or_demand, wait_for, write};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_hapilot");
const PEERS: &str = "peers = { a = \"198.51.100.11\", b = \"198.51.100.12\" }\n";
const SECOND: &str = "second_chance = true\n";

/// Two nodes and files for them.
struct Bed {
    net: Net,
    dir: TempDir,
}

impl Bed {
    fn new() -> Option<Self> {
        let net = Net::new(&["nft", "python3"])?;
        Some(Self { net, dir: tempfile::tempdir().expect("a directory for the files") })
    }

    /// Makes the network of a node as a file wants it.
    fn settle(&self, node: &str, of_node: &str, more: &str, of_vip: &str) -> Finished {
        let text = format!(
            "[node]\n{of_node}[frontend.api]\nbind = [\"*:8080\"]\nbackend = \"chat\"\n\
             [backend.chat.server.s]\nurl = \"http://127.0.0.1:9000\"\n{more}\
             [vip.public]\naddresses = [\"198.51.100.200/24\"]\ninterface = \"eth0\"\nrouter_id = 51\n\
             priority = {{ a = 150, b = 100 }}\n{of_vip}"
        );
        let file = self.dir.path().join("hapilot.toml");
        write(&file, text);
        self.net.run(node, &[BINARY, "-c", file.to_str().expect("a path of ASCII"), "--node", node, "__network"])
    }

    /// The same, with nothing to say.
    fn settled(&self, node: &str, more: &str, of_vip: &str) {
        let Finished { code, stdout, stderr } = self.settle(node, PEERS, more, of_vip);
        assert_eq!((code, stdout + &stderr), (Some(0), String::new()));
    }

    /// All that could have been touched.
    fn everything(&self, node: &str) -> String {
        let settings = "grep -r . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward | sort";
        let looks: [&[&str]; 7] = [
            &["nft", "-a", "list", "ruleset"],
            &["ip", "rule"],
            &["ip", "-6", "rule"],
            &["ip", "-d", "addr"],
            &["ip", "route", "show", "table", "all"],
            &["ip", "-6", "route", "show", "table", "all"],
            &["sh", "-c", settings],
        ];
        looks.map(|words| self.net.done(node, words)).join("\n")
    }

    fn tables(&self, node: &str) -> String {
        self.net.done(node, &["nft", "list", "tables"])
    }

    fn setting(&self, node: &str, place: &str) -> String {
        self.net.done(node, &["cat", &format!("/proc/sys/net/ipv4/conf/{place}")]).trim().to_owned()
    }
}

#[test]
fn settling_makes_all_of_it_once_and_undoes_all_of_it_and_leaves_others_alone() {
    let Some(bed) = Bed::new() else { return };
    let net = &bed.net;
    for words in [
        "nft 'table inet theirs { chain input { type filter hook input priority 0; tcp dport 8080 accept; }; }'",
        "nft 'table ip hapilot_theirs { set streams { type ipv4_addr; elements = { 198.51.100.7 }; }; }'",
        "ip rule add pref 100 from 203.0.113.9 lookup main",
        "ip addr add 203.0.113.9/32 dev lo",
        "ip addr add 2001:db8:9::9/128 dev lo",
        "ip addr add 203.0.113.10/24 dev eth0",
        "echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_announce",
    ] {
        net.done("a", &["sh", "-c", words]);
    }
    let before = bed.everything("a");

    let six = "[vip.six]\naddresses = [\"2001:db8::200/64\"]\ninterface = \"eth0\"\nrouter_id = 52\nmulticast = true\n\
               priority = { a = 150, b = 100 }\n";
    bed.settled("a", six, SECOND);
    let lo = net.done("a", &["ip", "-o", "addr", "show", "dev", "lo"]);
    assert!(lo.contains("198.51.100.200/32") && lo.contains("2001:db8::200/128"), "{lo}");
    assert_eq!(["eth0/arp_ignore", "eth0/arp_announce"].map(|place| bed.setting("a", place)), ["1", "2"]);
    assert_eq!(["all/arp_ignore", "all/arp_announce", "lo/arp_ignore"].map(|place| bed.setting("a", place)), ["0"; 3]);
    let tables = bed.tables("a");
    for name in ["inet hapilot_vrrp", "ip hapilot_streams", "inet hapilot_before", "inet theirs", "ip hapilot_theirs"] {
        assert!(tables.lines().any(|line| line == format!("table {name}")), "{name}: {tables}");
    }
    let made = bed.everything("a");
    bed.settled("a", six, SECOND);
    assert_eq!(bed.everything("a"), made, "a second time changes nothing");

    // Rules that somebody removed come back; an option that goes takes its own along and nothing else.
    net.done("a", &["nft", "flush", "chain", "inet", "hapilot_vrrp", "prerouting"]);
    bed.settled("a", six, SECOND);
    assert!(net.done("a", &["nft", "list", "table", "inet", "hapilot_vrrp"]).contains("drop"));
    bed.settled("a", six, "");
    assert!(bed.tables("a").contains("hapilot_vrrp") && !bed.tables("a").contains("hapilot_streams"));
    bed.settled("a", "[keepalived]\nfirewall = false\n", "");
    assert!(!bed.tables("a").contains("hapilot_vrrp"));
    let lo = net.done("a", &["ip", "-o", "addr", "show", "dev", "lo"]);
    assert!(lo.contains("198.51.100.200/32") && !lo.contains("2001:db8::200/128"), "{lo}");

    let elsewhere = bed.settle("c", PEERS, "", SECOND);
    assert_eq!(elsewhere.code, Some(0), "{}", elsewhere.stderr);
    assert_eq!(bed.tables("c"), "", "a node without a part in it wants nothing");
    let file = bed.dir.path().join("hapilot.toml");
    net.done("a", &[BINARY, "-c", file.to_str().expect("a path of ASCII"), "--node", "z", "__network"]);
    assert_eq!(bed.everything("a"), before, "all is as it was");
}

#[test]
fn only_the_owner_answers_arp_for_the_address() {
    let Some(bed) = Bed::new() else { return };
    for node in ["a", "b"] {
        bed.settled(node, "", "");
    }
    bed.net.done("b", &["ip", "addr", "add", "198.51.100.200/24", "dev", "eth0"]);
    let mac = |node| bed.net.done(node, &["cat", "/sys/class/net/eth0/address"]).trim().to_owned();
    for round in 0..5 {
        bed.net.done("c", &["ip", "neigh", "flush", "dev", "eth0"]);
        // A datagram makes the kernel ask.
        bed.net.done("c", &["python3", "-c", "import socket; socket.socket(2, 2).sendto(b'', ('198.51.100.200', 9))"]);
        let known = wait_for("the owner's answer", PATIENCE, || {
            let known = bed.net.done("c", &["ip", "neigh", "show", "198.51.100.200"]);
            known.contains("lladdr").then_some(known)
        });
        assert!(known.contains(&mac("b")), "{round}: {known}");
    }
    // The old owner asks for others in its own name.
    let source =
        "import socket; s = socket.socket(2, 2); s.bind(('198.51.100.200', 0)); s.sendto(b'', ('198.51.100.100', 9))";
    bed.net.done("a", &["ip", "neigh", "flush", "dev", "eth0"]);
    bed.net.done("a", &["python3", "-c", source]);
    wait_for("the client's answer", PATIENCE, || {
        bed.net.done("a", &["ip", "neigh", "show", "198.51.100.100"]).contains("lladdr").then_some(())
    });
    let known = bed.net.done("c", &["ip", "neigh", "show", "198.51.100.200"]);
    assert!(known.contains(&mac("b")), "{known}");
}

/// Counts VRRP packets that come through to whoever listens: prints `ready`, and then the sender and first byte of each.
const LISTENER: &str = "
import socket, select
four = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
six = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 112)
print('ready', flush=True)
while True:
    for s in select.select([four, six], [], [])[0]:
        data, who = s.recvfrom(2000)
        print(who[0], chr(data[20] if s is four else data[0]), flush=True)
";

const SENDER: &str = "
import socket, sys
to, ttl, letter = sys.argv[1:]
is_six = ':' in to
s = socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, socket.SOCK_RAW, 112)
s.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if is_six else (socket.IPPROTO_IP, socket.IP_TTL)), int(ttl))
s.sendto(letter.encode() * 20, (to, 0))
";

#[test]
fn vrrp_is_taken_from_the_peers_of_this_very_network_alone() {
    let Some(bed) = Bed::new() else { return };
    let mut listener = Background::start(bed.net.command("a", &["python3", "-c", LISTENER]));
    listener.wait_for_output("ready");
    let send = |from: &str, to: &str, ttl: &str, letter: &str| {
        bed.net.done(from, &["python3", "-c", SENDER, to, ttl, letter]);
    };
    // The listener hears everybody where nothing is settled.
    send("c", "198.51.100.11", "1", "A");
    listener.wait_for_output("198.51.100.100 A");

    bed.settled("a", "", "");
    send("c", "198.51.100.11", "255", "B");
    send("b", "198.51.100.11", "254", "C");
    send("c", "2001:db8::11", "255", "D");
    send("b", "198.51.100.11", "255", "E");
    listener.wait_for_output("198.51.100.12 E");

    let six = "peers = { a = \"2001:db8::11\", b = \"2001:db8::12\" }\n";
    let of_vip = "[vip.six]\naddresses = [\"2001:db8::200/64\"]\ninterface = \"eth0\"\nrouter_id = 52\n\
                  priority = { a = 150, b = 100 }\n";
    let file = bed.dir.path().join("six.toml");
    let text = format!(
        "[node]\nname = \"a\"\n{six}[frontend.api]\nbind = [\"*:8080\"]\nbackend = \"chat\"\n\
         [backend.chat.server.s]\nurl = \"http://127.0.0.1:9000\"\n{of_vip}"
    );
    write(&file, text);
    bed.net.done("a", &[BINARY, "-c", file.to_str().expect("a path of ASCII"), "__network"]);
    send("c", "2001:db8::11", "255", "F");
    send("b", "2001:db8::11", "254", "G");
    send("b", "198.51.100.11", "255", "H");
    send("b", "2001:db8::11", "255", "I");
    listener.wait_for_output("2001:db8::12 I");
    let heard = listener.stdout();
    assert_eq!(heard, "ready\n198.51.100.100 A\n198.51.100.12 E\n2001:db8::12 I\n");
}

/// An error as one line, wherever it was broken for the terminal.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_cannot_be_done_is_told_and_the_rest_is_done() {
    let Some(bed) = Bed::new() else { return };
    // The other node is behind a router.
    bed.net.done("a", &["ip", "route", "add", "default", "via", "198.51.100.100"]);
    let away = "peers = { a = \"198.51.100.11\", b = \"203.0.113.12\" }\n";
    let told = bed.settle("a", away, "", SECOND);
    let reason = "error: streams of [vip.public] get no second chance: 203.0.113.12 is not in the network of eth0";
    assert_eq!((told.code, flat(&told.stderr).as_str()), (Some(1), reason));
    assert!(!bed.tables("a").contains("hapilot_streams") && bed.tables("a").contains("hapilot_vrrp"));

    // No nftables.
    let tools = tempfile::tempdir().expect("a directory for the tools");
    let ip = Command::new("sh").args(["-c", "command -v ip"]).output().expect("a shell").stdout;
    let ip = String::from_utf8(ip).expect("a path").trim().to_owned();
    std::os::unix::fs::symlink(ip, tools.path().join("ip")).expect("a link to ip");
    let file = bed.dir.path().join("hapilot.toml");
    let path = format!("PATH={}", tools.path().display());
    let words = ["env", &path, BINARY, "-c", file.to_str().expect("a path of ASCII"), "--node", "b", "__network"];
    let told = bed.net.run("b", &words);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    assert!(flat(&told.stderr).contains("need nftables: `nft` is not installed"), "{}", told.stderr);
    assert!(bed.net.done("b", &["ip", "addr", "show", "dev", "lo"]).contains("198.51.100.200/32"));
    assert_eq!(bed.setting("b", "eth0/arp_ignore"), "1");

    // No right to change the network, and settings that nobody may change: each is told, nothing is half made.
    let file_name = file.to_str().expect("a path of ASCII");
    let no_right = ["setpriv", "--bounding-set=-net_admin", BINARY, "-c", file_name, "--node", "a", "__network"];
    bed.net.done("a", &["ip", "addr", "del", "198.51.100.200/32", "dev", "lo"]);
    let told = bed.net.run("a", &no_right);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    for reason in
        ["need nftables: Operation not permitted", "could not give lo 198.51.100.200/32: Operation not permitted"]
    {
        assert!(flat(&told.stderr).contains(reason), "{}", told.stderr);
    }
    bed.net.done("c", &["ip", "addr", "add", "198.51.100.11/24", "dev", "eth0"]);
    let read_only = format!(
        "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && {BINARY} -c {file_name} --node a __network"
    );
    let told = bed.net.run("c", &["sh", "-c", &read_only]);
    let lo = bed.net.done("c", &["ip", "addr", "show", "dev", "lo"]);
    assert!(told.code == Some(1) && flat(&told.stderr).contains("Read-only file system"), "{}", told.stderr);
    assert!(!lo.contains("198.51.100.200") && bed.tables("c").contains("hapilot_vrrp"), "{lo}");

    // An interface that is not there: nobody may answer for the address.
    bed.net.done("c", &["ip", "link", "set", "eth0", "down"]);
    bed.net.done("c", &["ip", "link", "set", "eth0", "name", "eth7"]);
    let (there, priority) = ("priority = { a = 150, b = 100 }", "priority = { a = 150, c = 100 }");
    let text = std::fs::read_to_string(&file).expect("the file").replace(there, priority).replace("b = ", "c = ");
    write(&file, text);
    let told = bed.net.run("c", &[BINARY, "-c", file.to_str().expect("a path of ASCII"), "--node", "c", "__network"]);
    assert!(told.code == Some(1) && flat(&told.stderr).contains("there is no interface eth0"), "{}", told.stderr);
    assert!(!bed.net.done("c", &["ip", "addr", "show", "dev", "lo"]).contains("198.51.100.200"));
}

#[test]
fn nothing_is_forwarded_to_a_node_that_is_away() {
    let Some(bed) = Bed::new() else { return };
    bed.net.done("b", &["ip", "link", "set", "eth0", "down"]);
    bed.settled("a", "", SECOND);
    assert!(bed.tables("a").contains("hapilot_vrrp") && !bed.tables("a").contains("hapilot_streams"));
    bed.net.done("b", &["ip", "link", "set", "eth0", "up"]);
    wait_for("b to be seen", PATIENCE, || {
        bed.settled("a", "", SECOND);
        bed.tables("a").contains("hapilot_streams").then_some(())
    });
    bed.net.done("b", &["ip", "link", "set", "eth0", "down"]);
    bed.settled("a", "", SECOND);
    assert!(!bed.tables("a").contains("hapilot_streams"), "one look is enough");
}

/// Sends an ACK of a connection that nobody has, again and again, until it is refused; prints how many it took.
const STRAY: &str = "
import socket, struct, sys
source, target = map(socket.inet_aton, ('198.51.100.100', '198.51.100.200'))
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
segment = struct.pack('!HHIIBBHHH', 45000, 8080, 1000, 2000, 0x50, 0x10, 1000, 0, 0)
check = sum16(source + target + struct.pack('!BBH', 0, 6, 20) + segment)
segment = segment[:16] + struct.pack('!H', check) + segment[18:]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
for sent in range(1, 6):
    raw.sendto(segment, ('198.51.100.200', 0))
    raw.settimeout(1)
    try:
        while True:
            packet = raw.recv(200)
            if packet[12:16] == target and packet[33] & 4:
                sys.exit(print(sent, 'refused'))
    except TimeoutError:
        pass
print('never refused')
";

/// Greets whoever connects.
const GREETER: &str = "
import socket
listener = socket.create_server(('0.0.0.0', 8080))
print('ready', flush=True)
while True:
    with listener.accept()[0] as client:
        client.sendall(b'welcome')
";

/// Connects from the port of the stray packets, and to a port that nobody serves.
const CALLER: &str = "
import socket
with socket.create_connection(('198.51.100.200', 8080), timeout=5, source_address=('198.51.100.100', 45000)) as caller:
    print(caller.recv(100).decode())
try:
    socket.create_connection(('198.51.100.200', 81), timeout=5)
except ConnectionRefusedError:
    print('refused')
";

#[test]
fn a_packet_that_neither_node_knows_is_refused_and_goes_in_no_circles() {
    let Some(bed) = Bed::new() else { return };
    for node in ["a", "b"] {
        bed.settled(node, "", SECOND);
    }
    bed.net.done("a", &["ip", "addr", "add", "198.51.100.200/24", "dev", "eth0"]);
    let mut greeter = Background::start(bed.net.command("a", &["python3", "-c", GREETER]));
    greeter.wait_for_output("ready");
    // The first one is what the owner learns from.
    assert_eq!(bed.net.done("c", &["python3", "-c", STRAY]), "2 refused\n");
    let forwarded = |node: &str| {
        let chain = bed.net.done(node, &["nft", "list", "chain", "ip", "hapilot_streams", "prerouting"]);
        let (_, counter) = chain.split_once("counter packets ").expect("a counter");
        counter.split(' ').next().expect("a number").to_owned()
    };
    assert_eq!([forwarded("a"), forwarded("b")], ["1", "0"]);
    // What was learnt of those ends is forgotten when a connection between them begins, and a closed port is closed.
    assert_eq!(bed.net.done("c", &["python3", "-c", CALLER]), "welcome\nrefused\n");
    assert_eq!([forwarded("a"), forwarded("b")], ["1", "0"]);
}

#[test]
fn streams_live_through_moves_with_a_second_chance_and_end_at_once_without() {
    if !is_root() {
        return skip_or_demand("network namespaces need root");
    }
    if let Some(tool) = ["ip", "nft", "python3", "keepalived"].iter().find(|tool| !has(tool)) {
        return skip_or_demand(&format!("needs `{tool}`"));
    }
    let Some(binary) = binaries().into_iter().next() else { return };
    let streams = |way: &str, moves: &str| {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/measure/streams"));
        command.arg("--haproxy").arg(&binary.path).args(["--hapilot", BINARY]);
        command.args(["--streams", "3", "--seconds", "4", "--moves", moves, "--way", way]);
        let mut measuring = Background::start(command);
        if measuring.wait(Duration::from_secs(60)).is_none() {
            // Its namespaces go with it.
            measuring.stop();
        }
        let said = measuring.stdout() + &measuring.stderr();
        let row = said.lines().find(|line| line.starts_with(way));
        row.map(str::to_owned).unwrap_or_else(|| panic!("no result of {way}:\n{said}"))
    };
    let survived = streams("second chance", "2");
    assert!(survived.contains("3 complete") && survived.contains(" 0 of "), "{survived}");
    let ended = streams("address on lo", "1");
    assert!(ended.contains("3 ConnectionResetError"), "{ended}");
}

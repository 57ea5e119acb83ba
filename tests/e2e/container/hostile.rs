//! Programs that want more than they may have, or what is not theirs.

use std::{fs, process::Stdio};

use super::Place;

/// Ends as it should, and nothing of it is left.
#[test]
fn programs_that_want_more_than_they_may_have_are_contained_and_end_with_the_right_outcome() {
    let Some(place) = Place::open("hostile programs") else { return };
    processes(&place);
    memory(&place);
    disk(&place);
    output(&place);
    network(&place);
    privileges(&place);
    links(&place);
    protocol(&place);
    place.engine.is_clean();
    place.run(["ledger", "check"]).ok();
}

/// Runs a program and demands its exit code and, in `hb show`, its outcome.
#[track_caller]
fn ends(place: &Place, job: &str, flags: &[&str], program: &str, (code, outcome): (i32, &str)) {
    let ran = place.python(job, flags, program);
    let shown = place.world.show(job);
    assert_eq!(shown["outcome"].as_str(), Some(outcome), "{job}: {}", ran.stderr);
    ran.exits(code);
    assert!(place.engine.containers().is_empty(), "{job} is over and its container is left");
}

fn processes(place: &Place) {
    let count = "
import os, time
forks = 0
while True:
    try:
        child = os.fork()
    except OSError:
        break
    if child == 0:
        time.sleep(600)
    forks += 1
print(forks < 256)";
    assert_eq!(place.python("forks", &[], count).ok().text(), "True\n");
    let bomb = "
import os
while True:
    try:
        os.fork()
    except OSError:
        pass";
    ends(place, "fork-bomb", &["--timeout", "3s"], bomb, (124, "limit deadline_ms"));
}

fn memory(place: &Place) {
    let bomb = "
held = []
while True:
    held.append(bytearray(1 << 20))";
    let flags = ["--max-memory", "64MiB"];
    ends(place, "memory-bomb", &flags, bomb, (137, "limit memory_bytes"));
}

fn disk(place: &Place) {
    let flags = ["--max-files-bytes", "4MiB"];
    let limit = (137, "limit files_bytes");
    let fill = "
with open('/out/fill', 'wb', 0) as file:
    while True:
        file.write(bytes(1 << 16))";
    ends(place, "disk-filler", &flags, fill, limit);
    let hidden = "
import os, time
held = []
while True:
    held.append(open('/job/hidden', 'wb', 0))
    os.unlink('/job/hidden')
    held[-1].write(bytes(1 << 20))
    time.sleep(0.01)";
    ends(place, "hidden-filler", &flags, hidden, limit);
    let many = "
at = 0
while True:
    at += 1
    open('/job/%d' % at, 'w').close()";
    ends(place, "many-files", &["--max-files", "200"], many, (137, "limit files"));
    let elsewhere = "
import errno
for path in ('/tmp/fill', '/dev/shm/fill'):
    try:
        with open(path, 'wb', 0) as file:
            while True:
                file.write(bytes(1 << 20))
    except OSError as error:
        print(errno.errorcode[error.errno])";
    let ran = place.python("elsewhere", &[], elsewhere).ok();
    assert_eq!(ran.text(), "ENOSPC\nENOSPC\n");
}

fn output(place: &Place) {
    let flood = "
while True:
    print('x' * 1000)";
    let limit = (137, "limit stdout_bytes");
    ends(place, "flood", &["--max-stdout", "100KiB"], flood, limit);
    assert_eq!(place.run(["logs", "flood"]).ok().stdout.len(), 100 * 1024);
    let cut = "
import os, time
print('one', flush=True)
time.sleep(0.5)
os.ftruncate(1, 0)
time.sleep(60)";
    ends(place, "cut", &["--timeout", "30s"], cut, (134, "trap contract-broken"));
}

fn network(place: &Place) {
    let probe = "
import socket
print([name for _, name in socket.if_nameindex()])
for address in ('1.1.1.1', '169.254.169.254', '10.0.0.1', '172.17.0.1'):
    probe = socket.socket()
    probe.settimeout(5)
    try:
        probe.connect((address, 80))
        print('reached', address)
    except OSError as error:
        print(type(error).__name__)
try:
    socket.getaddrinfo('example.org', 80)
    print('found')
except OSError:
    print('no names')";
    let text = place.python("network", &[], probe).ok().text();
    assert_eq!(text, "['lo']\nOSError\nOSError\nOSError\nOSError\nno names\n");
}

fn privileges(place: &Place) {
    let probe = "
import os
status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
print(os.getuid() != 0 or os.environ.get('NEVER'), os.getgroups())
print(int(status['CapEff'], 16), int(status['CapBnd'], 16), status['NoNewPrivs'].strip(),
      status['Seccomp'].strip())
def refused(what, act):
    try:
        act()
        print(what, 'was possible')
    except OSError:
        pass
refused('root', lambda: os.setuid(0))
refused('a file of the image', lambda: open('/etc/passwd', 'a'))
refused('a file at the top', lambda: open('/new', 'w'))
refused('a file beside the streams', lambda: open('/hackbrain/new', 'w'))
refused('the module', lambda: open('/hackbrain/hackbrain.py', 'a'))
refused('an input', lambda: open('/in/new', 'w'))
refused('a device', lambda: os.mknod('/tmp/device', 0o60600, os.makedev(8, 0)))
refused('a setting of the kernel', lambda: open('/proc/sys/kernel/hostname', 'w'))
refused('the kernel log', lambda: open('/proc/kmsg'))
refused('the passwords', lambda: open('/etc/shadow'))
refused('a root of its own', lambda: os.chroot('/tmp'))
print('done')";
    let text = place.python("privileges", &[], probe).ok().text();
    assert_eq!(text, "True [65534]\n0 0 1 2\ndone\n");
}

fn links(place: &Place) {
    let trap = (134, "trap contract-broken");
    for (job, make) in [
        ("link", "os.symlink('/etc/shadow', '/out/leak')"),
        ("link-to-directory", "os.symlink('/', '/job/leak')"),
        ("pipe", "os.mkfifo('/out/leak')"),
    ] {
        ends(place, job, &[], &format!("import os; {make}"), trap);
        assert!(place.world.artifacts(job).is_empty(), "{job}");
    }
    // A directory that becomes a link to the machine's own while it is looked at.
    let flicker = "
import os, time
os.mkdir('/job/d')
open('/job/d/mine', 'w').close()
end = time.time() + 2
while time.time() < end:
    os.rename('/job/d', '/job/e')
    os.symlink('/', '/job/d')
    os.unlink('/job/d')
    os.rename('/job/e', '/job/d')";
    ends(place, "flicker", &["--max-files", "100"], flicker, (0, "success"));
}

fn protocol(place: &Place) {
    let connect = "
import os, socket, struct, time
host = socket.socket(socket.AF_UNIX)
host.connect(os.environ['HACKBRAIN_SOCKET'])
def send(text, payload=0):
    host.sendall(struct.pack('<IQ', len(text), payload) + text)
";
    let trap = (134, "trap contract-broken");
    let cases = [
        ("nonsense", "send(b'nonsense')", trap),
        ("other-version", r#"send(b'{"op":"hello","protocol":99}')"#, trap),
        ("long-request", "host.sendall(struct.pack('<IQ', 1 << 31, 0))", trap),
        (
            "long-state",
            r#"send(b'{"op":"save","step":1,"sequence":1}', 1 << 40)"#,
            (137, "limit checkpoint_bytes"),
        ),
        ("falling", r#"[send(b'{"op":"due","step":%d}' % at) for at in (5, 4)]"#, trap),
    ];
    for (job, act, ending) in cases {
        let program = format!("{connect}{act}\ntime.sleep(60)");
        ends(place, job, &["--timeout", "30s"], &program, ending);
    }
    // Whoever sends a part of a request and waits keeps nobody from being ended.
    let stall = format!("{connect}host.sendall(b'\\0')\ntime.sleep(600)");
    ends(place, "stall", &["--timeout", "2s"], &stall, (124, "limit deadline_ms"));
}

/// Everything that a program could have told of the machine stays what the image says.
#[test]
fn a_mount_leads_nowhere_but_where_the_operator_allowed() {
    let Some(place) = Place::open("mounts") else { return };
    let allowed = place.world.path("allowed");
    fs::create_dir_all(allowed.join("a/b")).unwrap();
    fs::write(allowed.join("a/b/file"), "shown\n").unwrap();
    let secret = place.world.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "secret\n").unwrap();
    std::os::unix::fs::symlink(&secret, allowed.join("link")).unwrap();
    let config = place.world.path("hb.toml");
    let text = format!(
        "[container]\nmounts = [{:?}]\ngrants = [\"pids\", \"writable-root\"]\n",
        allowed.to_str().unwrap()
    );
    fs::write(&config, text).unwrap();
    let try_mount = |job: &str, mount: String| {
        let mut command = place.hb(["run", "--config", config.to_str().unwrap()]);
        command.args(["--image", super::IMAGE, "--job-id", job, "--mount", &mount]);
        command.args(["--", "cat", "/data/file"]);
        command.stdout(Stdio::piped());
        crate::support::Ran::of(command.output().unwrap())
    };
    let at = |path: &str| format!("{}/{path}:/data", allowed.display());
    assert_eq!(try_mount("inside", at("a/b")).ok().text(), "shown\n");
    let linked = try_mount("linked", at("link")).exits(126);
    assert!(linked.stderr.contains("without links"), "{}", linked.stderr);
    for (job, mount) in [
        ("climbing", at("../secret")),
        ("elsewhere", format!("{}:/data", secret.display())),
        ("changing", format!("{}:rw", at("a/b"))),
        ("covering", format!("{}/a:/job", allowed.display())),
    ] {
        let ran = try_mount(job, mount);
        assert_ne!(ran.code, Some(0), "{job}");
        assert!(ran.stdout.is_empty(), "{job}");
    }

    // A grant widens one thing, and the seal says so.
    let refused = place.python("not-granted", &["--grant", "pids=300"], "1");
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("container.grants"), "{}", refused.stderr);
    let flags = ["--config", config.to_str().unwrap(), "--grant", "writable-root"];
    let write =
        "import os; print(os.access('/', os.W_OK) or open('/proc/mounts').read().split()[3][:2])";
    assert_eq!(place.python("granted", &flags, write).ok().text(), "rw\n");
    let seal = place.run(["seal", "granted"]).ok().text();
    assert!(
        place.run(["show", "granted", "--json"]).ok().text().contains("writable-root"),
        "{seal}"
    );
    place.engine.is_clean();
}

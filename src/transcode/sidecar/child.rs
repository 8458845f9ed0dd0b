//! One run of ffmpeg or ffprobe: its limits, its output, its end. Blocking: run it on a thread that may wait.
//!
//! Invariants: a child has a process group of its own, is dead and reaped when [`run`] returns, and dies with us; it can write no file; its
//! environment holds none of ours but where programs, libraries and drivers are; what it says is bounded.

use super::super::find_program;
pub use super::failure::Failure;
use super::failure::classify;
use super::reading::Reading;
use parking_lot::Mutex;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getpriority_process, kill_process_group, prlimit,
    setpriority_process, waitid,
};
use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};

/// Address space: 2160p takes about half. Not for devices: CUDA reserves more than any machine has, so what bounds those is the
/// control group's `memory.max`.
const ADDRESS_BYTES_MAX: u64 = 4 << 30;
/// Processor seconds of a run for each of its outputs: each is encoded by itself.
const CPU_S_MAX: u64 = 120;
/// The same where a film is only looked at: less than its request waits, so that a film that is too much work is known as one even
/// where the machine is to blame for what takes longer than that.
pub const LOOK_CPU_S_MAX: u64 = 25;
/// Processor seconds of a run that makes pictures, for each of its outputs.
const PICTURE_CPU_S_MAX: u64 = 40;
/// What a run has to end by itself when it is told that its seconds are over.
const CPU_S_TO_END: u64 = 5;
const DESCRIPTORS_MAX: u64 = 64;

/// Kills a child from another thread, and says how nice it is.
#[derive(Debug, Default)]
pub struct Kill(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    killed: bool,
    niceness: i32,
    /// While it lives and is not reaped: no other process can have its number.
    group: Option<Pid>,
}

impl Kill {
    /// Now, or as soon as it starts.
    pub fn now(&self) {
        let mut state = self.0.lock();
        state.killed = true;
        if let Some(group) = state.group {
            // Gone already is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// The run is over for a reason of its own, which stands.
    fn end_group(&self) {
        if let Some(group) = self.0.lock().group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Whether it was told to kill.
    pub fn was_used(&self) -> bool {
        self.0.lock().killed
    }

    fn watch(&self, child: &Child) {
        let mut state = self.0.lock();
        state.group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if state.niceness != 0 {
            // From outside, like its limits: before it has threads, which have each their own. One that is gone needs none.
            let ours = getpriority_process(None).unwrap_or(0);
            let _ = setpriority_process(state.group, (ours + state.niceness).min(19));
        }
        if let (true, Some(group)) = (state.killed, state.group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits for its end. It stays a zombie until nobody can mean its number any more.
    fn reap(&self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let group = self.0.lock().group;
        if let Some(pid) = group {
            let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), how), Err(Errno::INTR)) {}
        }
        self.0.lock().group = None;
        child.wait()
    }
}

/// Kills what it is shared with when the task that holds it ends early: nobody waits for the child then.
#[derive(Debug, Default)]
pub struct KillOnDrop(Arc<Kill>);

impl KillOnDrop {
    /// Of a child that leaves the processors to others; 0: it does not, 19: to all others.
    pub fn of_nice(niceness: i32) -> Self {
        Self(Arc::new(Kill(Mutex::new(State { niceness, ..State::default() }))))
    }

    pub fn share(&self) -> Arc<Kill> {
        Arc::clone(&self.0)
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.now();
    }
}

/// Runs `program` on `film` to its end; `take` gets its output as it comes, and may end the run with a reason.
pub fn run(
    program: &Path,
    arguments: &[String],
    film: File,
    kill: &Kill,
    take: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), Failure> {
    run_within(CPU_S_MAX, program, arguments, film, kill, take)
}

/// Like [`run`], within so many processor seconds.
pub fn run_within(
    cpu_s_max: u64,
    program: &Path,
    arguments: &[String],
    film: File,
    kill: &Kill,
    mut take: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), Failure> {
    let line = |_: &[RawFd]| arguments.to_vec();
    let bounds = Bounds { outputs: 1, cpu_s: cpu_s_max, address: true };
    run_all(bounds, program, line, (film, None), kill, &mut |_, bytes| take(bytes))
}

/// Like [`run`], with something beside the film, of which `arguments` is told the descriptor.
pub fn run_beside(
    program: &Path,
    arguments: impl FnOnce(RawFd) -> Vec<String>,
    film: File,
    beside: OwnedFd,
    kill: &Kill,
    mut take: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), Failure> {
    let descriptor = beside.as_raw_fd();
    let line = |_: &[RawFd]| arguments(descriptor);
    let bounds = Bounds { outputs: 1, cpu_s: CPU_S_MAX, address: true };
    run_all(bounds, program, line, (film, Some(beside)), kill, &mut |_, bytes| take(bytes))
}

/// What a run may have.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    outputs: usize,
    cpu_s: u64,
    /// Whether its address space is bounded.
    address: bool,
}

/// Like [`run`], for a program with several outputs: the first is standard output, and `arguments` is told the descriptors of all.
/// `on_device`: it maps a device's memory, which no bound of addresses allows.
pub fn run_split(
    program: &Path,
    (outputs, on_device): (usize, bool),
    arguments: impl FnOnce(&[RawFd]) -> Vec<String>,
    film: File,
    kill: &Kill,
    mut take: impl FnMut(usize, &[u8]) -> Result<(), String>,
) -> Result<(), Failure> {
    let bounds = Bounds { outputs, cpu_s: CPU_S_MAX.saturating_mul(outputs as u64), address: !on_device };
    run_all(bounds, program, arguments, (film, None), kill, &mut take)
}

/// Like [`run_split`], for pictures: within less of the processor's time.
pub fn run_pictures(
    program: &Path,
    outputs: usize,
    arguments: impl FnOnce(&[RawFd]) -> Vec<String>,
    film: File,
    kill: &Kill,
    mut take: impl FnMut(usize, &[u8]) -> Result<(), String>,
) -> Result<(), Failure> {
    let cpu_s = PICTURE_CPU_S_MAX.saturating_mul(outputs as u64);
    let bounds = Bounds { outputs, cpu_s, address: true };
    run_all(bounds, program, arguments, (film, None), kill, &mut take)
}

fn run_all(
    bounds: Bounds,
    program: &Path,
    arguments: impl FnOnce(&[RawFd]) -> Vec<String>,
    (film, beside): (File, Option<OwnedFd>),
    kill: &Kill,
    take: &mut impl FnMut(usize, &[u8]) -> Result<(), String>,
) -> Result<(), Failure> {
    let failed = |what: &str, error: std::io::Error| Failure::Machine(format!("{what}: {error}"));
    let no_pipes = |error| failed("there are no pipes", error);
    let (readers, writers) = pipes(bounds.outputs.saturating_sub(1)).map_err(no_pipes)?;
    let descriptors: Vec<RawFd> = std::iter::once(1).chain(writers.iter().map(AsRawFd::as_raw_fd)).collect();
    let mut command = command(program);
    command
        .args(arguments(&descriptors))
        .env_clear()
        .envs(
            ["PATH", "LD_LIBRARY_PATH", "LIBVA_DRIVER_NAME", "LIBVA_DRIVERS_PATH"]
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        // CUDA counts devices as the kernel does, and SVT-AV1 says nothing where nothing is wrong.
        .envs([("CUDA_DEVICE_ORDER", "PCI_BUS_ID"), ("SVT_LOG", "1")])
        .current_dir("/")
        .stdin(film)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let inherited = writers.into_iter().map(OwnedFd::from).chain(beside).collect();
    let mut child = spawn(&mut command, inherited).map_err(|error| failed("the program cannot be started", error))?;
    kill.watch(&child);
    limit(&child, bounds);
    let mut reading = Reading::new(child.id(), child.stdout.take(), readers, child.stderr.take());
    let taken = reading.read(take);
    if taken.is_err() {
        kill.end_group();
    }
    let said = reading.said();
    let status = kill.reap(&mut child).map_err(|error| failed("the program cannot be waited for", error));
    if kill.was_used() {
        return Err(Failure::Killed);
    }
    taken?;
    let status = status?;
    match (status.success(), classify(&said)) {
        (true, _) => Ok(()),
        (false, Some((class, line))) => Err(Failure::Device(class, without_paths(&reason(line)))),
        (false, None) => Err(ended_from_outside(status).unwrap_or_else(|| Failure::Failed(reason(&said)))),
    }
}

/// Ends that the program itself did not choose.
fn ended_from_outside(status: ExitStatus) -> Option<Failure> {
    let is = |signal: Signal| status.signal() == Some(signal.as_raw());
    if is(Signal::XCPU) {
        return Some(Failure::Failed("it took too much of the processor's time".to_owned()));
    }
    if is(Signal::KILL) {
        return Some(Failure::Machine("it was killed: there may be too little memory".to_owned()));
    }
    // Said by who starts programs (`setpriv`, a shell), and by the dynamic linker; ffmpeg ends with neither.
    matches!(status.code(), Some(126 | 127)).then(|| Failure::Machine("the program cannot be started".to_owned()))
}

/// The program, told to die with us where util-linux is there to say so: only it can, without unsafe code, before the program begins.
/// Elsewhere it ends when it next writes to us.
fn command(program: &Path) -> Command {
    const SETPRIV: [&str; 3] = ["--pdeathsig", "KILL", "--"];
    static FOUND: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let setpriv = find_program("setpriv")?;
        let mut asked = Command::new(&setpriv);
        asked.args(SETPRIV).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success()).then_some(setpriv)
    });
    let Some(setpriv) = FOUND.as_ref() else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    command.args(SETPRIV).arg(program);
    command
}

fn pipes(count: usize) -> std::io::Result<(Vec<PipeReader>, Vec<PipeWriter>)> {
    (0..count).map(|_| std::io::pipe()).collect::<std::io::Result<Vec<_>>>().map(|pipes| pipes.into_iter().unzip())
}

/// Starts a child that inherits the writing ends of pipes, and what else it is given; they are closed here. All children of the process
/// are started under one lock, so that no other one inherits them: it would hold a pipe open after its owner's end.
fn spawn(command: &mut Command, inherited: Vec<OwnedFd>) -> std::io::Result<Child> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    for descriptor in &inherited {
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    let child = command.spawn();
    drop(inherited);
    child
}

/// Set from outside, right after the start: without unsafe code nothing of ours runs in the child before.
fn limit(child: &Child, bounds: Bounds) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    for (resource, most, more) in [
        (Resource::As, if bounds.address { ADDRESS_BYTES_MAX } else { u64::MAX }, 0),
        // By its first limit a child is told, so that it can be known why it ended; by the second it is killed.
        (Resource::Cpu, bounds.cpu_s, CPU_S_TO_END),
        (Resource::Fsize, 0, 0),
        (Resource::Core, 0, 0),
        (Resource::Nofile, DESCRIPTORS_MAX, 0),
    ] {
        if most == u64::MAX {
            continue;
        }
        // A child that is gone needs none.
        let _ = prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum: Some(most + more) });
    }
}

/// Devices have names.
fn without_paths(said: &str) -> String {
    said.replace("/dev/dri/", "").replace("/dev/", "")
}

/// The last line said, without the addresses ffmpeg puts into it.
fn reason(said: &str) -> String {
    if said.contains("not on whitelist") {
        return "it is none of MP4, QuickTime, Matroska, WebM, MPEG-TS, MPEG-PS, AVI, FLV, ASF and Ogg".to_owned();
    }
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let Some(last) = last else { return "the program failed and said nothing".to_owned() };
    let plain: String = last.chars().filter(|c| !c.is_control()).take(200).collect();
    match (plain.split_once(" @ 0x"), plain.split_once("] ")) {
        (Some((name, _)), Some((_, rest))) => format!("{}: {rest}", name.trim_start_matches('[')),
        _ => plain.replace("file:/proc/self/fd/0", "film"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn shell(script: &str, kill: &Kill) -> (Result<(), Failure>, Vec<u8>) {
        let mut output = Vec::new();
        let arguments = ["-c".to_owned(), script.to_owned()];
        let ended = run(Path::new("/bin/sh"), &arguments, File::open("/dev/null").unwrap(), kill, |bytes| {
            output.extend_from_slice(bytes);
            if output.len() > 100 { Err("too much".into()) } else { Ok(()) }
        });
        (ended, output)
    }

    #[test]
    fn output_and_failure_come_back() {
        assert_eq!(shell("echo film", &Kill::default()), (Ok(()), b"film\n".to_vec()));
        let (ended, _) = shell("echo '[mov @ 0x55d0c] moov atom not found' >&2; exit 1", &Kill::default());
        assert_eq!(ended, Err(Failure::Failed("mov: moov atom not found".into())));
        let (ended, _) = shell("exit 1", &Kill::default());
        assert_eq!(ended, Err(Failure::Failed("the program failed and said nothing".into())));
        let several = |descriptors: &[RawFd]| {
            let more = descriptors[1..].iter().map(|to| format!("yes {to} | head -c 200000 >&{to};"));
            vec!["-c".to_owned(), more.chain(["echo one".to_owned()]).collect()]
        };
        let mut output = [0; 3];
        let null = File::open("/dev/null").unwrap();
        let ended = run_split(Path::new("/bin/sh"), (3, false), several, null, &Kill::default(), |which, bytes| {
            output[which] += bytes.len();
            Ok(())
        });
        assert_eq!((ended, output), (Ok(()), [4, 200_000, 200_000]));
        let (ended, _) = shell("while :; do echo 0123456789; done", &Kill::default());
        assert_eq!(ended, Err(Failure::Failed("too much".into())), "endless output ends the run");
    }

    #[test]
    fn a_failure_of_the_machine_is_told_from_one_of_the_film() {
        let failed = |script: &str| shell(script, &Kill::default()).0.unwrap_err();
        for machine in ["kill -9 $$", "exit 127", "exec /no/such/program"] {
            assert!(matches!(failed(machine), Failure::Machine(_)), "{machine}");
        }
        for film in ["exit 1", "kill -SEGV $$", "echo Cannot allocate memory >&2; exit 1"] {
            assert!(matches!(failed(film), Failure::Failed(_)), "{film}");
        }
    }

    #[test]
    fn a_run_that_takes_too_much_of_the_processor_ends_and_it_is_the_films_fault() {
        let script = ["-c".to_owned(), "while :; do :; done".to_owned()];
        let null = File::open("/dev/null").unwrap();
        let ended = run_within(1, Path::new("/bin/sh"), &script, null, &Kill::default(), |_| Ok(()));
        assert_eq!(ended, Err(Failure::Failed("it took too much of the processor's time".into())));
    }

    #[test]
    fn a_hung_child_and_its_children_are_killed() {
        let kill = Arc::new(Kill::default());
        let started = Instant::now();
        let killer = Arc::clone(&kill);
        let thread = std::thread::spawn(move || {
            while killer.0.lock().group.is_none() {
                std::thread::yield_now();
            }
            killer.now();
        });
        let (ended, _) = shell("sleep 60 & sleep 60", &kill);
        thread.join().unwrap();
        assert_eq!(ended, Err(Failure::Killed));
        assert!(started.elapsed() < Duration::from_secs(30), "the grandchild held the pipe");
        assert_eq!(shell("sleep 60", &kill).0, Err(Failure::Killed), "killed before it starts");
    }

    #[test]
    fn a_child_sees_none_of_our_environment_and_writes_no_file() {
        assert_eq!(shell("env | grep -c CARGO", &Kill::default()).1, b"0\n");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        // The limit is set right after the start: the child gives it a moment.
        let script = format!("sleep 0.2; trap '' XFSZ; echo written > {}", file.display());
        assert!(shell(&script, &Kill::default()).0.is_err());
        assert_eq!(std::fs::read(&file).unwrap_or_default(), b"");
    }
}

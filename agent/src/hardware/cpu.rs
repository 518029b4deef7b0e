//! Processors, from `/proc/cpuinfo` (proc(5)). Kernels for ARM say less in it: of the model the maker's and the part's number, and nothing of the topology,
//! which is in sysfs (kernel document ABI/stable/sysfs-devices-system-cpu).

use super::text;
use leaseboot_protocol::hardware::Cpu;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Reads what the trees below `root` tell.
pub(super) fn read(root: &Path) -> Cpu {
    let cpuinfo = text(&root.join("proc/cpuinfo"));
    let mut cpu = parse(&cpuinfo);
    if !cpuinfo.contains("physical id")
        && let Some((sockets, cores)) = topology(&root.join("sys/devices/system/cpu"))
    {
        (cpu.sockets, cpu.cores) = (sockets, cores);
    }
    cpu
}

/// Sockets and cores of the processors that are in use; `None` where a kernel does not tell.
fn topology(folder: &Path) -> Option<(u32, u32)> {
    let (mut sockets, mut cores) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let of = |name: &str| text(&entry.path().join("topology").join(name));
        let (socket, core) = (of("physical_package_id"), of("core_id"));
        // Folders such as `cpufreq` have none, and -1 is no word.
        if socket.parse::<u32>().is_ok() && !core.is_empty() {
            sockets.insert(socket.clone());
            cores.insert((socket, core));
        }
    }
    let count = |set: usize| u32::try_from(set).ok().filter(|count| *count > 0);
    Some((count(sockets.len())?, count(cores.len())?))
}

/// Reads the whole file's text.
fn parse(cpuinfo: &str) -> Cpu {
    let mut cpu = Cpu::default();
    let (mut sockets, mut cores) = (BTreeSet::new(), BTreeSet::new());
    for processor in cpuinfo.split("\n\n") {
        let field = |name: &str| {
            let value = |line: &str| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            };
            processor.lines().find_map(value)
        };
        let Some(number) = field("processor") else {
            continue;
        };
        cpu.threads += 1;
        if cpu.model.is_empty() {
            cpu.model = field("model name")
                .or_else(|| {
                    let (maker, part) = (field("CPU implementer")?, field("CPU part")?);
                    Some(format!("maker {maker}, part {part}"))
                })
                .unwrap_or_default();
            cpu.flags = field("flags")
                .or_else(|| field("Features"))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
        }
        // Kernels for one processor leave the topology out: then each processor is a core of one socket.
        let socket = field("physical id").unwrap_or_default();
        cores.insert((socket.clone(), field("core id").unwrap_or(number)));
        sockets.insert(socket);
    }
    let count = |set: usize| u32::try_from(set).unwrap_or(u32::MAX);
    Cpu {
        sockets: count(sockets.len()),
        cores: count(cores.len()),
        ..cpu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_threads_cores_and_sockets() {
        let thread = |processor: u32, socket: u32, core: u32| {
            format!(
                "processor\t: {processor}\nmodel name\t: X 1\nphysical id\t: {socket}\ncore id\t\t: {core}\nflags\t\t: fpu aes\n\n"
            )
        };
        let text = [thread(0, 0, 0), thread(1, 0, 0), thread(2, 0, 1), thread(3, 1, 0)].concat();
        let cpu = parse(&text);
        assert_eq!(
            (cpu.sockets, cpu.cores, cpu.threads, cpu.model.as_str()),
            (2, 3, 4, "X 1")
        );
        assert_eq!(cpu.flags, ["fpu", "aes"]);
    }

    #[test]
    fn arm_tells_numbers_in_place_of_a_model() {
        let text = "processor\t: 0\nBogoMIPS\t: 125.00\nFeatures\t: fp asimd crc32\nCPU implementer\t: 0x41\n\
                    CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n";
        let cpu = parse(text);
        assert_eq!(cpu.model, "maker 0x41, part 0xd08");
        assert_eq!(cpu.flags, ["fp", "asimd", "crc32"]);
        assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (1, 1, 1));
    }

    #[test]
    fn topology_that_is_not_in_the_text_is_in_sysfs() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let processor = |number: u32| format!("processor\t: {number}\nCPU part\t: 0xd08\n\n");
        write("proc/cpuinfo", &(0..4).map(processor).collect::<String>());
        assert_eq!((read(root.path()).sockets, read(root.path()).cores), (1, 4));
        for (number, socket, core) in [(0, 36, 0), (1, 36, 0), (2, 36, 1), (3, 3180, 0)] {
            let folder = format!("sys/devices/system/cpu/cpu{number}/topology");
            write(&format!("{folder}/physical_package_id"), &format!("{socket}\n"));
            write(&format!("{folder}/core_id"), &format!("{core}\n"));
        }
        write("sys/devices/system/cpu/cpufreq/boost", "1\n");
        let cpu = read(root.path());
        assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (2, 3, 4));
    }

    #[test]
    fn without_topology_every_processor_is_a_core() {
        let cpu = parse("processor : 0\nmodel name : QEMU\n\nprocessor : 1\n");
        assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (1, 2, 2));
    }
}

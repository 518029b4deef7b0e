//! Processors, from `/proc/cpuinfo` (proc(5)). Kernels for ARM say less in it: no topology, and of the model the maker's and the part's number.

use leaseboot_protocol::hardware::Cpu;
use std::collections::BTreeSet;

/// Reads the whole file's text.
pub(super) fn parse(cpuinfo: &str) -> Cpu {
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
    fn without_topology_every_processor_is_a_core() {
        let cpu = parse("processor : 0\nmodel name : QEMU\n\nprocessor : 1\n");
        assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (1, 2, 2));
    }
}

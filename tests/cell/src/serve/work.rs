//! Internal functions, performed.

use std::{
    hint::black_box,
    io::{Read, Seek, SeekFrom, Write},
};

use tokio::task::{JoinSet, spawn_blocking};

use crate::workmodel::{Cpu, Disk, Function, Loader, Memory};

/// Bytes of a block of `memory_stress`.
const MEMORY_BLOCK: usize = 1_000;

/// Does a service's own work. `digits` are those of this request's plan.
pub(super) async fn perform(function: &Function, digits: u32) -> std::io::Result<()> {
    match function {
        Function::Colosseum => Ok(()),
        Function::ComputePi { .. } => {
            spawn_blocking(move || black_box(pi(digits))).await?;
            Ok(())
        }
        Function::Loader(loader) => load(loader, digits).await,
    }
}

async fn load(loader: &Loader, digits: u32) -> std::io::Result<()> {
    if let Some(cpu) = loader.cpu {
        load_cpu(cpu, digits).await?;
    }
    if let Some(memory) = loader.memory {
        spawn_blocking(move || black_box(load_memory(memory))).await?;
    }
    if let Some(disk) = loader.disk {
        spawn_blocking(move || load_disk(disk)).await??;
    }
    if let Some(sleep) = loader.sleep {
        tokio::time::sleep(sleep).await;
    }
    Ok(())
}

async fn load_cpu(cpu: Cpu, digits: u32) -> std::io::Result<()> {
    let mut threads = JoinSet::new();
    for _ in 0..cpu.threads {
        threads.spawn_blocking(move || {
            for _ in 0..cpu.trials {
                black_box(pi(black_box(digits)));
            }
        });
    }
    while let Some(done) = threads.join_next().await {
        done?;
    }
    Ok(())
}

/// The first digits of pi, "3" included, by the spigot of Rabinowitz and Wagon (1995).
///
/// Quadratic in the number of digits, as the one of muBench, so that `range_complexity` keeps its meaning.
fn pi(digits: u32) -> Vec<u8> {
    // One more digit is computed: the last one may still wait for a carry. 10/3 cells a digit, by the paper.
    let wanted = digits as usize + 1;
    let mut cells = vec![2_u64; wanted * 10 / 3 + 2];
    let mut out: Vec<u8> = Vec::with_capacity(wanted + 2);
    let (mut held, mut nines) = (0_u8, 0_usize);
    while out.len() <= wanted {
        let mut carry = 0;
        for (ix, cell) in cells.iter_mut().enumerate().rev() {
            let ix = ix as u64;
            let value = *cell * 10 + carry;
            if ix == 0 {
                *cell = value % 10;
                carry = value / 10;
            } else {
                *cell = value % (2 * ix + 1);
                carry = value / (2 * ix + 1) * ix;
            }
        }
        // A digit is released when no later carry can change it; nines wait with it.
        match u8::try_from(carry).unwrap_or(10) {
            9 => nines += 1,
            10 => {
                out.push(held + 1);
                out.extend(std::iter::repeat_n(0, nines));
                (held, nines) = (0, 0);
            }
            digit => {
                out.push(held);
                out.extend(std::iter::repeat_n(9, nines));
                (held, nines) = (digit, 0);
            }
        }
    }
    // What was held at the start was no digit.
    out.into_iter().skip(1).take(digits as usize).collect()
}

fn load_memory(memory: Memory) -> usize {
    let blocks = memory.kilobytes as usize;
    let mut buffer = vec![b'A'; blocks * MEMORY_BLOCK];
    let mut sum = 0;
    for access in 0..memory.accesses as usize {
        let start = access % blocks * MEMORY_BLOCK;
        if let Some(block) = buffer.get_mut(start..start + MEMORY_BLOCK) {
            sum += block.iter().map(|byte| usize::from(*byte)).sum::<usize>();
            block.fill(b'B');
        }
    }
    sum
}

/// The file has no name: it is gone even when the cell is killed.
fn load_disk(disk: Disk) -> std::io::Result<()> {
    let mut file = tempfile::tempfile()?;
    let mut block = vec![0x5a; disk.block_bytes as usize];
    for _ in 0..disk.blocks {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    // From the end to the start, so that reading ahead does not help.
    for ix in (0..u64::from(disk.blocks)).rev() {
        file.seek(SeekFrom::Start(ix * u64::from(disk.block_bytes)))?;
        file.read_exact(&mut block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pi_is_pi() {
        let text = |digits| {
            pi(digits)
                .iter()
                .map(|digit| char::from(b'0' + digit))
                .collect::<String>()
        };
        assert_eq!(text(1), "3");
        assert_eq!(text(50), "31415926535897932384626433832795028841971693993751");
        // Digits 762 to 767 behind the point are six nines: the carry must wait through them.
        let long = text(1_000);
        assert_eq!(long.len(), 1_000);
        assert_eq!(&long[762..772], "9999998372");
        assert_eq!(text(767).len(), 767);
    }

    #[test]
    fn memory_and_disk_do_their_work() {
        // Two rounds over the two blocks: 65 ('A'), then 66 ('B').
        assert_eq!(
            load_memory(Memory {
                kilobytes: 2,
                accesses: 4
            }),
            2 * 1_000 * (65 + 66)
        );
        load_disk(Disk {
            blocks: 3,
            block_bytes: 100,
        })
        .unwrap();
    }
}

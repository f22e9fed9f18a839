//! The functions that the host offers to the module.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use wasmi::{AsContext, AsContextMut, Caller, Error, Extern, ExternType, Linker, Memory, Module};

use super::{HttpCall, State};

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;

const RESPONSE_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;

/// All imports of the module: those that the filter uses, and for the rest one that fails the test.
pub(super) fn linker(module: &Module) -> Result<Linker<State>> {
    let mut linker = Linker::new(module.engine());
    for import in module.imports() {
        let ExternType::Func(signature) = import.ty() else {
            bail!("import {} is no function", import.name())
        };
        let name = import.name().to_owned();
        linker.func_new(
            import.module(),
            import.name(),
            signature.clone(),
            move |_, _, _| {
                Err(Error::new(format!(
                    "the filter called {name}, which it never should"
                )))
            },
        )?;
    }
    linker.allow_shadowing(true);
    linker.func_wrap("env", "proxy_log", log)?;
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", set_tick_period)?;
    linker.func_wrap("env", "proxy_get_property", get_property)?;
    linker.func_wrap("env", "proxy_get_buffer_bytes", get_buffer_bytes)?;
    linker.func_wrap("env", "proxy_http_call", http_call)?;
    linker.func_wrap("wasi_snapshot_preview1", "clock_time_get", clock_time_get)?;
    linker.func_wrap("wasi_snapshot_preview1", "random_get", random_get)?;
    Ok(linker)
}

fn log(mut caller: Caller<'_, State>, level: u32, text: u32, size: u32) -> Result<u32, Error> {
    let text = read(&caller, text, size)?;
    let line = String::from_utf8_lossy(&text).into_owned();
    caller.data_mut().log.push((level, line));
    Ok(OK)
}

fn set_tick_period(mut caller: Caller<'_, State>, milliseconds: u32) -> Result<u32, Error> {
    caller.data_mut().tick_period_ms = milliseconds;
    Ok(OK)
}

fn get_property(
    mut caller: Caller<'_, State>,
    path: u32,
    size: u32,
    value: u32,
    value_size: u32,
) -> Result<u32, Error> {
    let path = read(&caller, path, size)?;
    let name = String::from_utf8_lossy(&path).replace('\0', ".");
    let state = caller.data_mut();
    state.host_calls += 1;
    state.reads.push(name.clone());
    if let Some(status) = state.broken.get(&name) {
        return Ok(*status);
    }
    match state
        .request
        .get(&name)
        .or_else(|| state.node.get(&name))
        .cloned()
    {
        None => Ok(NOT_FOUND),
        Some(bytes) => give(&mut caller, &bytes, value, value_size),
    }
}

fn get_buffer_bytes(
    mut caller: Caller<'_, State>,
    buffer: u32,
    start: u32,
    most: u32,
    value: u32,
    value_size: u32,
) -> Result<u32, Error> {
    let bytes = match buffer {
        PLUGIN_CONFIGURATION => &caller.data().configuration,
        RESPONSE_BODY => &caller.data().response_body,
        _ => return Ok(NOT_FOUND),
    };
    let bytes: Vec<u8> = bytes
        .iter()
        .skip(start as usize)
        .take(most as usize)
        .copied()
        .collect();
    give(&mut caller, &bytes, value, value_size)
}

#[expect(clippy::too_many_arguments, reason = "the ABI's")]
fn http_call(
    mut caller: Caller<'_, State>,
    cluster: u32,
    cluster_size: u32,
    headers: u32,
    headers_size: u32,
    body: u32,
    body_size: u32,
    _trailers: u32,
    _trailers_size: u32,
    timeout_ms: u32,
    token: u32,
) -> Result<u32, Error> {
    let cluster = String::from_utf8_lossy(&read(&caller, cluster, cluster_size)?).into_owned();
    let headers =
        unpair(&read(&caller, headers, headers_size)?).map_err(|error| Error::new(error.to_string()))?;
    let body = read(&caller, body, body_size)?;
    let state = caller.data_mut();
    if let Some(status) = state.refuse_calls {
        return Ok(status);
    }
    state.last_token += 1;
    let given = state.last_token;
    state.calls.push(HttpCall {
        token: given,
        cluster,
        headers,
        body,
        timeout_ms,
    });
    write(&mut caller, token, &given.to_le_bytes())?;
    Ok(OK)
}

fn clock_time_get(
    mut caller: Caller<'_, State>,
    _clock: u32,
    _precision: u64,
    time: u32,
) -> Result<u32, Error> {
    let nanos = u64::try_from(caller.data().now.as_nanos()).unwrap_or(u64::MAX);
    write(&mut caller, time, &nanos.to_le_bytes())?;
    Ok(OK)
}

fn random_get(mut caller: Caller<'_, State>, buffer: u32, size: u32) -> Result<u32, Error> {
    let state = caller.data_mut();
    state.random = state
        .random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    let bytes: Vec<u8> = state
        .random
        .to_be_bytes()
        .into_iter()
        .cycle()
        .take(size as usize)
        .collect();
    write(&mut caller, buffer, &bytes)?;
    Ok(OK)
}

// === memory of the VM ===

fn memory(caller: &Caller<'_, State>) -> Result<Memory, Error> {
    caller
        .get_export("memory")
        .and_then(Extern::into_memory)
        .ok_or_else(|| Error::new("no memory"))
}

fn read(caller: &Caller<'_, State>, address: u32, size: u32) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; size as usize];
    memory(caller)?.read(caller.as_context(), address as usize, &mut bytes)?;
    Ok(bytes)
}

fn write(caller: &mut Caller<'_, State>, address: u32, bytes: &[u8]) -> Result<(), Error> {
    Ok(memory(caller)?.write(caller.as_context_mut(), address as usize, bytes)?)
}

/// Returns bytes as Envoy does: into memory that the VM gives, nothing for an empty value.
fn give(caller: &mut Caller<'_, State>, bytes: &[u8], value: u32, value_size: u32) -> Result<u32, Error> {
    let mut address = 0;
    if !bytes.is_empty() {
        let allocate = caller
            .get_export("proxy_on_memory_allocate")
            .and_then(Extern::into_func);
        let allocate = allocate.ok_or_else(|| Error::new("no proxy_on_memory_allocate"))?;
        let allocate = allocate.typed::<u32, u32>(&*caller)?;
        address = allocate.call(&mut *caller, bytes.len() as u32)?;
        write(caller, address, bytes)?;
    }
    write(caller, value, &address.to_le_bytes())?;
    write(caller, value_size, &(bytes.len() as u32).to_le_bytes())?;
    Ok(OK)
}

/// Reads the ABI's form of a map.
fn unpair(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let mut numbers = bytes.chunks_exact(4).map(|number| match number {
        [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    });
    let count = numbers.next().context("a map without a number of pairs")?;
    let lengths: Vec<_> = numbers.take(2 * count).collect();
    let mut texts = bytes.get(4 + 8 * count..).context("a map cut off")?;
    let mut next = |length: usize| -> Result<String> {
        let text = texts.get(..length).context("a map's text cut off")?;
        texts = texts
            .get(length..)
            .and_then(|rest| rest.strip_prefix(b"\0"))
            .context("no NUL after a text")?;
        Ok(String::from_utf8(text.to_vec())?)
    };
    lengths
        .chunks_exact(2)
        .map(|pair| {
            Ok((
                next(pair.first().copied().unwrap_or(0))?,
                next(pair.last().copied().unwrap_or(0))?,
            ))
        })
        .collect()
}

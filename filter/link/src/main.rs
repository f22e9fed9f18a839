//! `gma-filter-link IN.wasm OUT.wasm`: gives the filter's module its final exports.
//!
//! The `proxy-wasm` crate exports every callback of the ABI as soon as it is linked, and Envoy enters the VM
//! for each callback that a module exports. This keeps the few that the filter needs, under the ABI's names,
//! and drops all code that nothing reaches any more.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use walrus::{ExportId, ImportKind, Module, ModuleConfig};

/// Every export of the result: its name there, and its name in the linker's output.
const EXPORTS: [(&str, &str); 8] = [
    ("memory", "memory"),
    ("_initialize", "_initialize"),
    ("proxy_abi_version_0_2_1", "proxy_abi_version_0_2_1"),
    ("proxy_on_memory_allocate", "gma_on_memory_allocate"),
    ("proxy_on_configure", "gma_on_configure"),
    ("proxy_on_tick", "gma_on_tick"),
    ("proxy_on_http_call_response", "gma_on_http_call_response"),
    ("proxy_on_log", "gma_on_log"),
];

/// Where Envoy offers functions to a module.
const IMPORT_MODULES: [&str; 2] = ["env", "wasi_snapshot_preview1"];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [input, output] = arguments.as_slice() else {
        eprintln!("usage: gma-filter-link IN.wasm OUT.wasm");
        return ExitCode::from(64);
    };
    match run(input, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gma-filter-link: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(input: &str, output: &str) -> Result<()> {
    let bytes = std::fs::read(input).with_context(|| {
        format!("{input}: build it with `cargo build -p gma-filter --target wasm32-wasip1 --profile wasm`")
    })?;
    let linked = link(&bytes).with_context(|| input.to_owned())?;
    std::fs::write(output, linked).with_context(|| output.to_owned())
}

fn link(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut config = ModuleConfig::new();
    config
        .generate_name_section(false)
        .generate_producers_section(false);
    let mut module = config.parse(bytes)?;
    let kept = EXPORTS
        .iter()
        .map(|(name, linked)| Ok((*name, find(&module, linked)?)))
        .collect::<Result<Vec<_>>>()?;
    let dropped: Vec<ExportId> = module
        .exports
        .iter()
        .map(walrus::Export::id)
        .filter(|export| kept.iter().all(|(_, kept)| kept != export))
        .collect();
    for export in dropped {
        module.exports.delete(export);
    }
    for (name, export) in kept {
        name.clone_into(&mut module.exports.get_mut(export).name);
    }
    walrus::passes::gc::run(&mut module);
    check_imports(&module)?;
    Ok(module.emit_wasm())
}

fn find(module: &Module, name: &str) -> Result<ExportId> {
    let found = module.exports.iter().find(|export| export.name == name);
    found
        .map(walrus::Export::id)
        .with_context(|| format!("no export `{name}`: is this module gma-filter's?"))
}

/// What Envoy does not offer would make it refuse the module, and with it the traffic.
fn check_imports(module: &Module) -> Result<()> {
    for import in module.imports.iter() {
        ensure!(
            IMPORT_MODULES.contains(&import.module.as_str()),
            "imports `{}` from `{}`, which Envoy does not offer",
            import.name,
            import.module
        );
        if !matches!(import.kind, ImportKind::Function(_)) {
            bail!("imports `{}`, which is no function", import.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with these exports, all of one function.
    fn module(exports: &[&str]) -> Vec<u8> {
        let mut module = Module::default();
        let builder = walrus::FunctionBuilder::new(&mut module.types, &[], &[]);
        let function = builder.finish(Vec::new(), &mut module.funcs);
        let memory = module.memories.add_local(false, false, 1, None, None);
        for name in exports {
            match *name {
                "memory" => module.exports.add(name, memory),
                _ => module.exports.add(name, function),
            };
        }
        module.emit_wasm()
    }

    fn linked_names() -> Vec<&'static str> {
        EXPORTS.iter().map(|(_, linked)| *linked).collect()
    }

    #[test]
    fn keeps_exactly_the_exports_of_the_list() {
        let mut names = linked_names();
        names.extend(["proxy_on_log", "proxy_on_request_headers", "proxy_on_done"]);
        let linked = Module::from_buffer(&link(&module(&names)).unwrap()).unwrap();
        let mut found: Vec<_> = linked.exports.iter().map(|export| export.name.as_str()).collect();
        let mut expected: Vec<_> = EXPORTS.iter().map(|(name, _)| *name).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_missing_export_is_named() {
        let names: Vec<_> = linked_names()
            .into_iter()
            .filter(|name| *name != "gma_on_log")
            .collect();
        let error = link(&module(&names)).unwrap_err().to_string();
        assert!(error.contains("no export `gma_on_log`"), "{error}");
    }

    #[test]
    fn what_is_no_module_is_an_error() {
        assert!(link(b"rubbish").is_err());
    }
}

//! `mock`: the mock AI backend in the foreground.

use super::args;
use super::output::{Failure, Output, Tone};
use crate::mock::{Mock, MockConfig, MockLoad};
use crate::sys;
use std::net::SocketAddr;

/// `hapilot mock`: until Ctrl-C.
pub(super) async fn mock(options: &args::Mock, out: Output) -> Result<(), Failure> {
    let config = config(options);
    let wanted = [config.bind, config.control];
    let mock = Mock::start(config).await.map_err(|e| {
        let why = format!("the mock cannot listen: {}", sys::ports::why_not(&wanted, &e));
        Failure::refused(why).help("choose other ports with --listen and --control")
    })?;
    let scheme = if options.tls { "https" } else { "http" };
    out.line(format_args!("{} answers on {scheme}://{}/v1", out.paint(Tone::Good, &options.name), mock.addr()));
    out.line(format_args!(
        "faults: curl -X PUT {}/fault -d '{{\"kind\":\"status\",\"code\":500}}'",
        mock.control_url()
    ));
    out.line(format_args!("        curl -X DELETE {}/fault", mock.control_url()));
    out.line(format_args!("load:   curl -X PUT {}/load -d '{{\"waiting\":3,\"cache\":0.8}}'", mock.control_url()));
    super::run::until_stopped().await;
    mock.stop().await;
    Ok(())
}

fn config(options: &args::Mock) -> MockConfig {
    let args::Mock { listen, control, name, key, models, first_token, tokens_per_second, tokens, cached_prompts, tls } =
        options.clone();
    let next = SocketAddr::new(listen.ip(), if listen.port() == 0 { 0 } else { listen.port().saturating_add(1) });
    let control = control.unwrap_or(next);
    MockConfig {
        bind: listen,
        control,
        name,
        key,
        models,
        first_token,
        tokens_per_second,
        tokens,
        cached_prompts: cached_prompts as usize,
        load: MockLoad::default(),
        tls: tls.then(Default::default),
    }
}

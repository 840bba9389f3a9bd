//! Networks: how much goes from container to container, to the host and in by a published port, and how long a question
//! takes to be answered.

mod namespace;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use super::report::Report;
use super::side::{Container, Network, Side};
use super::table::{Place, Row, Table, Unit};
use super::{Bench, Part};
use crate::images::{self, traffic};
use crate::{program, progress};

use namespace::Namespace;

/// Of one transfer, and of the questions of one path.
const SECONDS: &str = "2";
/// That servers of the bench listen on.
const PORT: u16 = 5201;
const HOST_PORT: u16 = 5202;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    BetweenContainers,
    ToTheHost,
    /// From the host's loopback.
    PublishedOnLoopback,
    /// From the host itself, to another of its addresses.
    Published,
}

const WAYS: [(Way, &str); 4] = [
    (Way::BetweenContainers, "container → container on one network"),
    (Way::ToTheHost, "container → the host, at its network's gateway"),
    (Way::PublishedOnLoopback, "the host's 127.0.0.1 → published port → container"),
    (Way::Published, "the host's other address → published port → container"),
];

/// What stands ready on one side.
struct Ready<'a> {
    side: &'a Side,
    /// Before the network, which goes last.
    server: Container<'a>,
    client: Container<'a>,
    server_address: String,
    gateway: String,
    published: u16,
    host_port: u16,
    program: PathBuf,
    _host_server: HostServer,
    _network: Network<'a>,
}

/// A server on the host; it ends with the value.
struct HostServer(Child);

pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<()> {
    let archive = images::ensure_traffic(bench.workspace)?;
    let program = traffic::program(bench.workspace)?;
    let own = match &bench.options.network_namespace {
        Some(_theirs) => None,
        None => Some(Namespace::new()?),
    };
    let namespace = own.as_ref().map(Namespace::name).or(bench.options.network_namespace.as_deref());
    let directory = bench.directory.path().join("network");
    std::fs::create_dir(&directory).context("no directory for a daemon")?;
    let mut daemon = bench.options.daemon(&bench.products, &directory, namespace, &["--bridge", "berth0"])?;
    let ours = Side::ours(&daemon, namespace)?;
    let accelerator = ours.accelerator.clone().unwrap_or_default();
    let tables = {
        let sides: Vec<&Side> = [Some(&ours), bench.peer.as_ref()].into_iter().flatten().collect();
        progress::heading("networks: two containers on each side");
        let ready: anyhow::Result<Vec<Ready<'_>>> = sides
            .iter()
            .zip(HOST_PORT..)
            .map(|(side, port)| Ready::on(side, &archive, &program, port))
            .collect();
        measure(bench.options.runs, &ready?)?
    };
    daemon.stop()?;
    Report { part: Part::Network, accelerator, tables }.write(bench)
}

fn measure(rounds: u32, sides: &[Ready<'_>]) -> anyhow::Result<Vec<Table>> {
    let mut tables = Vec::new();
    for (way, what) in WAYS {
        progress::heading(format_args!("{rounds} times: {what}"));
        let mut rows = [
            Row::new("throughput", Unit::MegabytesPerSecond),
            Row::new("– processor time of the host", Unit::NanosecondsPerByte),
            Row::new("– – of that, QEMU's, which is the guest", Unit::NanosecondsPerByte),
            Row::new("round trip of 64 bytes, median", Unit::Microseconds),
            Row::new("round trip of 64 bytes, 99 of 100", Unit::Microseconds),
        ];
        for round in 0..rounds {
            let mut order: Vec<&Ready<'_>> = sides.iter().collect();
            // A B B A: neither side always comes first.
            if round % 2 == 1 {
                order.reverse();
            }
            for side in order {
                side.go(way, &mut rows).with_context(|| format!("{what}, {:?}", side.side.place))?;
            }
        }
        tables.push(Table { what: what.to_owned(), reference: Some(Place::Peer), rows: rows.into() });
    }
    Ok(tables)
}

impl<'a> Ready<'a> {
    fn on(side: &'a Side, archive: &Path, program: &Path, host_port: u16) -> anyhow::Result<Self> {
        side.load(archive)?;
        let network = side.network()?;
        let inside = format!("/{}", traffic::NAME);
        let port = PORT.to_string();
        let serve = |more: &[&str]| {
            let on = ["--network", &network.id];
            side.run(&[&on, more, &[traffic::NAME, &inside, "serve", &port]].concat())
        };
        let server = serve(&["--publish", &format!("0.0.0.0::{PORT}")])?;
        let client = serve(&[])?;
        let mut command = side.command(program);
        command.args(["serve", &host_port.to_string()]).stdin(Stdio::null());
        let host_server = HostServer(command.spawn().context("cannot start a server on the host")?);
        Ok(Self {
            side,
            server_address: format!("{}:{PORT}", server.address_on(&network)?),
            gateway: network.gateway()?,
            published: server.published(PORT)?,
            host_port,
            program: program.to_path_buf(),
            server,
            client,
            _host_server: host_server,
            _network: network,
        })
    }

    fn go(&self, way: Way, [rate, cost, emulation, median, worst]: &mut [Row; 5]) -> anyhow::Result<()> {
        let place = self.side.place;
        let both = [&self.server, &self.client];
        let (said, spent) = self.side.processor_time(&both, || self.traffic(way, "send"))?;
        let [bytes, nanoseconds] = numbers(&said)?;
        rate.add(place, bytes / nanoseconds * 1e3);
        cost.add(place, nanos(spent.cpu) / bytes);
        if place == Place::Berth {
            emulation.add(place, nanos(spent.emulation) / bytes);
        }
        let said = self.traffic(way, "ask")?;
        let [_count, half, most] = numbers(&said)?;
        median.add(place, half / 1e3);
        worst.add(place, most / 1e3);
        Ok(())
    }

    /// What the program says that goes that way.
    fn traffic(&self, way: Way, verb: &str) -> anyhow::Result<String> {
        let inside = format!("/{}", traffic::NAME);
        let to_host = format!("{}:{}", self.gateway, self.host_port);
        let from_host = |address: &str| {
            let target = format!("{address}:{}", self.published);
            program::output(self.side.command(&self.program).args([verb, &target, SECONDS]))
        };
        match way {
            Way::BetweenContainers => self.client.exec(&[&inside, verb, &self.server_address, SECONDS]),
            Way::ToTheHost => self.client.exec(&[&inside, verb, &to_host, SECONDS]),
            Way::PublishedOnLoopback => from_host("127.0.0.1"),
            Way::Published => from_host(&self.gateway),
        }
    }
}

fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// The numbers of one line.
fn numbers<const COUNT: usize>(said: &str) -> anyhow::Result<[f64; COUNT]> {
    let numbers: Result<Vec<f64>, _> = said.split_whitespace().map(str::parse).collect();
    match numbers.ok().and_then(|numbers| numbers.try_into().ok()) {
        Some(numbers) => Ok(numbers),
        None => bail!("the traffic program said {said:?}"),
    }
}

impl Drop for HostServer {
    fn drop(&mut self) {
        // Nobody waits for it.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_says_as_many_numbers_as_are_asked_for() {
        assert_eq!(numbers::<2>("12 400\n").unwrap(), [12.0, 400.0]);
        assert!(numbers::<3>("12 400\n").is_err());
    }
}

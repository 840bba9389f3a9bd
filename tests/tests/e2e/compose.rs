//! `docker compose`, either generation, runs a project of real servers unchanged: what its containers reach and what they
//! do not, another copy of the project beside it, and what its database keeps.

use std::fs;

use berth_tests::{Client, Host, Namespace, Outcome, Project, eventually};

/// Writes numbers, one transaction each, and says each number once it is committed. A server that has vanished says nothing,
/// so the client gives it up.
const LEDGER: &str = "(echo 'create table ledger (number int);'; \
     seq 1000000 | sed 's/.*/insert into ledger values (&) returning number;/') \
     | stdbuf --output=L psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 \
     --dbname 'tcp_user_timeout=5000 keepalives_idle=2 keepalives_interval=2 keepalives_count=3'";
/// Enough to know that it goes on when the machine is killed.
const COMMITS_BEFORE_THE_KILL: usize = 50;

/// A host whose networks are its own, with the images of servers.
fn host(namespace: &Namespace) -> Option<Host> {
    let host = Host::with_networks(namespace)?;
    let images = host.large_image_archive("servers")?;
    host.berth().run(["load", "--quiet", "--input", &images]).exits_with(0);
    Some(host)
}

#[test]
fn a_front_runs_beside_another() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(host) = host(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    let Some(shop) = Project::new(&host, "shop", 8080) else { return };

    shop.run(&["up", "--detach", "--wait", "web", "cache"]).exits_with(0);
    lists(&shop, &["cache running healthy", "web running healthy"]);
    serves_its_pages(&shop, &namespace);
    stands_beside_another(&host, &namespace, &docker);
    shop.run(&["up", "--detach", "--wait", "--no-recreate", "--scale", "cache=2", "cache"]).exits_with(0);
    lists(&shop, &["cache running healthy", "cache running healthy", "web running healthy"]);
    shop.run(&["logs", "--no-color", "cache"]).exits_with(0).prints("cache-2  | ");
    // In their places, on the same port and the same networks.
    shop.run(&["up", "--detach", "--wait", "--force-recreate", "web"]).exits_with(0);
    namespace.get("127.0.0.1", 8080).prints("sold out");
    shop.run(&["down", "-v"]).exits_with(0);
    leaves_nothing(&docker);
}

#[test]
fn the_tool_of_years_ago_runs_a_front_too() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(host) = host(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    let Some(shop) = Project::new(&host, "shop", 8080) else { return };
    let Some(shop) = shop.for_the_predecessor() else { return };

    shop.run(&["up", "-d", "web", "cache"]).exits_with(0);
    shop.run(&["ps"]).exits_with(0).prints("shop_cache_1").prints("shop_web_1");
    eventually("the server answers", || {
        namespace.get("127.0.0.1", 8080).stdout.contains("open for business")
    });
    shop.run(&["exec", "-T", "cache", "redis-cli", "ping"]).exits_with(0).prints_exactly("PONG");
    shop.run(&["up", "-d", "--no-recreate", "--scale", "cache=2", "cache"]).exits_with(0);
    let caches = shop.run(&["ps", "-q", "cache"]).exits_with(0).stdout;
    assert_eq!(caches.lines().count(), 2, "{caches}");
    shop.run(&["logs", "--no-color", "web"]).exits_with(0).prints("GET / HTTP");
    shop.run(&["down", "-v"]).exits_with(0);
    leaves_nothing(&docker);
}

#[test]
fn a_shop_loses_nothing() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(host) = host(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    let Some(shop) = Project::new(&host, "shop", 8080) else { return };

    shop.run(&["up", "--detach", "--wait"]).exits_with(0);
    let all = ["cache running healthy", "database running healthy", "web running healthy", "worker running"];
    lists(&shop, &all);
    keeps_the_front_from_the_database(&docker, &shop);
    takes_orders(&shop);
    keeps_its_orders_in_another_container(&docker, &shop);
    loses_no_commit_with_its_machine(&host, &docker, &shop);

    // What the other tool finds is the volume, and the orders in it. What nobody named, the cache's, is left to be pruned.
    shop.run(&["--profile", "reports", "down"]).exits_with(0);
    docker.run(["volume", "prune", "--force"]).exits_with(0);
    assert_eq!(volumes(&docker), ["shop_orders"]);
    let predecessor = shop.for_the_predecessor();
    if let Some(shop) = &predecessor {
        runs_with_the_predecessor(shop);
    }
    predecessor.unwrap_or(shop).run(&["down", "-v"]).exits_with(0);
    leaves_nothing(&docker);
}

fn leaves_nothing(docker: &Client) {
    docker.run(["ps", "--all", "--quiet"]).prints_exactly("");
    assert!(volumes(docker).is_empty());
    docker.run(["network", "ls", "--filter", "type=custom", "--quiet"]).prints_exactly("");
}

/// Demands these containers of the project's, by service, state and health.
fn lists(project: &Project, expected: &[&str]) {
    let listed = project.run(&["ps", "--format", "{{.Service}} {{.State}} {{.Health}}"]).exits_with(0);
    let mut services: Vec<_> = listed.stdout.lines().map(str::trim).collect();
    services.sort_unstable();
    assert_eq!(services, expected);
}

fn serves_its_pages(shop: &Project, namespace: &Namespace) {
    namespace.get("127.0.0.1", 8080).prints("open for business");
    fs::write(shop.path("html/index.html"), "sold out\n").expect("the page is ours to change");
    eventually("the server serves what its page has become", || {
        namespace.get("127.0.0.1", 8080).stdout.contains("sold out")
    });
    shop.exec("web", "touch /usr/share/nginx/html/new").exits_with(1).complains("Read-only file system");
}

fn keeps_the_front_from_the_database(docker: &Client, shop: &Project) {
    let database = address(docker, "shop-database-1", "shop_back");
    let connect = |service: &str, host: &str| {
        shop.exec(service, &format!("timeout 20 bash -c 'exec 3<>/dev/tcp/{host}/5432' && echo connected"))
    };
    for host in ["database", &database] {
        connect("worker", host).prints("connected");
        let outcome = connect("web", host);
        assert!(!outcome.stdout.contains("connected"), "{outcome:?}");
    }
    shop.exec("web", "getent hosts worker").exits_with(0);
}

fn takes_orders(shop: &Project) {
    order(shop, "tea");
    let logs = || shop.run(&["logs", "--no-color", "worker"]).exits_with(0);
    eventually("the worker writes the order down", || logs().stdout.contains("wrote down tea"));

    shop.run(&["up", "--detach", "--no-recreate", "--scale", "worker=2", "worker"]).exits_with(0);
    eventually("both work", || {
        let logs = logs();
        ["worker-1", "worker-2"].iter().all(|worker| {
            logs.stdout.lines().any(|line| line.starts_with(worker) && line.ends_with(" works"))
        })
    });
    for number in 1..=6 {
        order(shop, &format!("cake {number}"));
    }
    eventually("all are written down", || orders(shop).text() == "7");
    shop.run(&["up", "--no-deps", "report"]).exits_with(0).prints("7 orders");
    shop.run(&["--profile", "reports", "run", "--rm", "-T", "report"]).exits_with(0).prints("7 orders");
}

fn stands_beside_another(host: &Host, namespace: &Namespace, docker: &Client) {
    let Some(other) = Project::new(host, "other", 8081) else { return };
    other.run(&["up", "--detach", "--wait", "web", "cache"]).exits_with(0);
    lists(&other, &["cache running healthy", "web running healthy"]);
    // Each has its own pages and its own queue, and what it has not is not the other's.
    namespace.get("127.0.0.1", 8081).prints("open for business");
    namespace.get("127.0.0.1", 8080).prints("sold out");
    other.exec("cache", "redis-cli set owner other").exits_with(0);
    docker.run(["exec", "shop-cache-1", "redis-cli", "get", "owner"]).prints_exactly("");
    let ask = |project: &str| {
        let cache = address(docker, &format!("{project}-cache-1"), &format!("{project}_back"));
        other.exec("cache", &format!("timeout 10 redis-cli -h {cache} ping"))
    };
    ask("other").prints("PONG");
    let elsewhere = ask("shop");
    assert!(!elsewhere.stdout.contains("PONG"), "{elsewhere:?}");
    other.run(&["down", "-v"]).exits_with(0);
    namespace.get("127.0.0.1", 8080).prints("sold out");
}

fn keeps_its_orders_in_another_container(docker: &Client, shop: &Project) {
    let before = id(docker, "shop-database-1");
    shop.run(&["rm", "--stop", "--force", "database"]).exits_with(0);
    shop.run(&["up", "--detach", "--wait", "database"]).exits_with(0);
    assert_ne!(id(docker, "shop-database-1"), before);
    orders(shop).prints_exactly("7");
}

fn loses_no_commit_with_its_machine(host: &Host, docker: &Client, shop: &Project) {
    let mut ledger = shop.spawn(&["exec", "-T", "worker", "bash", "-c", LEDGER]);
    let mut committed: Vec<String> = (0..COMMITS_BEFORE_THE_KILL).map(|_| ledger.line()).collect();
    host.kill_the_machine_of(&id(docker, "shop-database-1"));
    committed.extend(std::iter::from_fn(|| ledger.next_line()));
    eventually("the death is noticed", || {
        let state = docker.run(["inspect", "--format", "{{.State.ExitCode}}", "shop-database-1"]);
        state.text() == "137"
    });

    shop.run(&["up", "--detach", "--wait", "database"]).exits_with(0);
    let kept = query(shop, "select number from ledger order by number").stdout;
    let kept: Vec<_> = kept.lines().collect();
    // The last ones may be there without having been answered for.
    assert!(
        kept.len() >= committed.len() && kept[..committed.len()] == committed[..],
        "{committed:?} {kept:?}"
    );
}

/// The volume is there, and the cluster in it.
fn runs_with_the_predecessor(shop: &Project) {
    shop.run(&["up", "-d"]).exits_with(0);
    let listed = shop.run(&["ps"]).exits_with(0);
    for name in ["shop_web_1", "shop_database_1", "shop_cache_1", "shop_worker_1"] {
        assert!(listed.stdout.contains(name), "{name} in {listed:?}");
    }
    orders(shop).prints_exactly("7");
    shop.run(&["up", "-d", "--no-recreate", "--scale", "worker=2"]).exits_with(0);
    order(shop, "coffee");
    eventually("an old tool's worker writes it down", || orders(shop).text() == "8");
    shop.run(&["logs", "--no-color", "worker"]).exits_with(0).prints("wrote down coffee");
}

fn order(shop: &Project, item: &str) {
    shop.run(&["exec", "-T", "cache", "redis-cli", "rpush", "orders", item]).exits_with(0);
}

fn orders(shop: &Project) -> Outcome {
    query(shop, "select count(*) from orders")
}

fn query(shop: &Project, sql: &str) -> Outcome {
    shop.run(&["exec", "-T", "database", "psql", "-U", "shop", "-tAc", sql])
}

fn id(docker: &Client, container: &str) -> String {
    docker.run(["inspect", "--format", "{{.Id}}", container]).exits_with(0).text()
}

fn address(docker: &Client, container: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    docker.run(["inspect", "--format", &format, container]).exits_with(0).text()
}

fn volumes(docker: &Client) -> Vec<String> {
    docker.run(["volume", "ls", "--quiet"]).exits_with(0).stdout.lines().map(str::to_owned).collect()
}

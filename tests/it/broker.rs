//! A real Apache Kafka on loopback: brokers that are controllers as well, and what a test does to them.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::exporter::binary;
use crate::support::{Child, free_port, program, root, succeeds, wait_for};

/// A start takes seconds; a machine that builds something else meanwhile takes far longer.
const LONG: Duration = Duration::from_secs(120);
/// A JVM that starts beside others took 84 s on a busy machine.
const BOOT: Duration = Duration::from_secs(600);

/// Brokers; dropping it kills them.
pub struct Cluster {
    directory: tempfile::TempDir,
    jars: String,
    /// Where the brokers listen.
    host: Ipv4Addr,
    /// By number, from 1 on.
    brokers: Vec<Broker>,
}

struct Broker {
    port: u16,
    process: Option<Child>,
}

impl Cluster {
    /// Starts so many brokers.
    pub fn start(count: usize) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, count)
    }

    /// Starts a broker that also tells clients, if they ask at its second port, that it is to be reached through a proxy at
    /// this one. Returns the second port.
    pub fn start_behind(proxy: u16) -> (Self, u16) {
        let inner = free_port();
        let cluster = Self::start_with(Ipv4Addr::LOCALHOST, 1, &[], |port, control| {
            format!(
                "listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control},INNER://127.0.0.1:{inner}\n\
                 advertised.listeners=CLIENT://127.0.0.1:{port},INNER://127.0.0.1:{proxy}\n\
                 listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,INNER:PLAINTEXT\n"
            )
        });
        (cluster, inner)
    }

    /// Starts three brokers of which one alone is enough for transactions.
    pub fn start_frugal() -> Self {
        let enough = "transaction.state.log.min.isr=1\nmin.insync.replicas=1\n";
        Self::start_with(Ipv4Addr::LOCALHOST, 3, &[], |_, _| enough.into())
    }

    /// Starts so many brokers that listen at this address.
    pub fn start_at(host: Ipv4Addr, count: usize) -> Self {
        Self::start_with(host, count, &[], |_, _| String::new())
    }

    /// Starts a broker that also listens with TLS, for logins and for client certificates. Only `ale` may do anything.
    pub fn start_secured(secured: &Secured) -> Self {
        let scram = ["SCRAM-SHA-256", "SCRAM-SHA-512"];
        let logins = scram.map(|how| format!("{how}=[name=ale,password={PASSWORD}]"));
        let format = ["--add-scram", &logins[0], "--add-scram", &logins[1]];
        Self::start_with(Ipv4Addr::LOCALHOST, 1, &format, |port, control| {
            secured.settings(port, control)
        })
    }

    /// Starts so many brokers, with arguments for the tool that formats their logs, and settings for those with these ports.
    fn start_with(
        host: Ipv4Addr,
        count: usize,
        format_more: &[&str],
        more: impl Fn(u16, u16) -> String,
    ) -> Self {
        let jars = succeeds(&mut Command::new(root().join("tests/install-kafka.sh"))).out;
        let directory = tempfile::tempdir().expect("a directory");
        // A port that nobody holds may be named again.
        let mut free = std::collections::BTreeSet::new();
        while free.len() < 2 * count {
            free.insert(free_port());
        }
        let free: Vec<u16> = free.into_iter().collect();
        let ports: Vec<(u16, u16)> = free.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let voters = ports.iter().enumerate();
        let voters = voters.map(|(at, (_, control))| format!("{}@127.0.0.1:{control}", at + 1));
        let voters = voters.collect::<Vec<_>>().join(",");
        let mut cluster = Self {
            jars: format!("{}/*", jars.trim()),
            directory,
            host,
            brokers: Vec::new(),
        };
        for (at, (port, control)) in ports.iter().enumerate() {
            let id = at + 1;
            let data = cluster.path(&format!("data{id}"));
            let enough = count.div_ceil(2);
            // Session and election times are shortened, so that a killed broker costs seconds.
            let mut settings = format!(
                "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={voters}\n\
                 listeners=CLIENT://{host}:{port},CONTROLLER://127.0.0.1:{control}\n\
                 controller.listener.names=CONTROLLER\ninter.broker.listener.name=CLIENT\n\
                 listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
                 log.dirs={}\nauto.create.topics.enable=false\ndefault.replication.factor={count}\n\
                 min.insync.replicas={enough}\noffsets.topic.num.partitions=1\n\
                 offsets.topic.replication.factor={count}\ntransaction.state.log.num.partitions=3\n\
                 transaction.state.log.replication.factor={count}\n\
                 transaction.state.log.min.isr={enough}\ngroup.initial.rebalance.delay.ms=0\n\
                 broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=300\n\
                 controller.quorum.fetch.timeout.ms=1000\ncontroller.quorum.election.timeout.ms=500\n\
                 log.cleaner.dedupe.buffer.size=8388608\nlog.retention.check.interval.ms=500\n\
                 log.initial.task.delay.ms=500\nlog.cleaner.backoff.ms=500\nfile.delete.delay.ms=500\n\
                 transaction.abort.timed.out.transaction.cleanup.interval.ms=500\n",
                data.display()
            );
            settings += &more(*port, *control);
            let file = cluster.path(&format!("{id}.properties"));
            std::fs::write(&file, settings).expect("it can be written");
            let mut format = cluster.java(64, "kafka.tools.StorageTool");
            format.args(["format", "-t", "AAAAAAAAQACAAAAAAAAAAQ"]);
            succeeds(format.args(format_more).arg("-c").arg(&file));
            cluster.brokers.push(Broker {
                port: *port,
                process: None,
            });
        }
        for id in 1..=count {
            cluster.boot(id);
        }
        cluster.wait();
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn java(&self, heap_mib: usize, class: &str) -> Command {
        let mut command = Command::new(program("java"));
        command
            .arg(format!("-Xmx{heap_mib}m"))
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dlog4j2.level=INFO", "-cp", &self.jars, class]);
        command
    }

    /// Starts a broker that is not running.
    pub fn boot(&mut self, id: usize) {
        let mut command = self.java(256, "kafka.Kafka");
        command.arg(self.path(&format!("{id}.properties")));
        self.brokers[id - 1].process = Some(Child::start(&mut command));
    }

    /// Kills a broker.
    pub fn kill(&mut self, id: usize) {
        self.brokers[id - 1].process = None;
    }

    /// Sends a signal to a broker that is running.
    pub fn signal(&mut self, id: usize, name: &str) {
        let process = self.brokers[id - 1].process.as_mut();
        process.expect("it runs").signal(name);
    }

    /// Ends a broker in order, and starts it again.
    pub fn restart(&mut self, id: usize) {
        if let Some(mut process) = self.brokers[id - 1].process.take() {
            process.signal("TERM");
            process.wait_for_end(LONG);
        }
        self.boot(id);
    }

    fn reader(&self) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("group.id", "test")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true");
        config.create().expect("a consumer")
    }

    /// How many records were written to a topic of which none was deleted, without transactions.
    pub fn written(&self, topic: &str, partitions: i32) -> usize {
        let reader = self.reader();
        let ends = (0..partitions).map(|partition| {
            let ends = reader.fetch_watermarks(topic, partition, LONG);
            usize::try_from(ends.expect("an answer").1).expect("an offset")
        });
        ends.sum()
    }

    /// How many records of a partition are still there, and how many there ever were.
    pub fn kept(&self, topic: &str, partition: i32) -> (usize, usize) {
        let reader = self.reader();
        let (_, end) = reader
            .fetch_watermarks(topic, partition, LONG)
            .expect("an answer");
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)
            .expect("an offset");
        reader.assign(&list).expect("a partition");
        let mut count = 0;
        loop {
            match reader.poll(LONG) {
                Some(Ok(_)) => count += 1,
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => break,
                other => panic!("{other:?}"),
            }
        }
        (count, usize::try_from(end).expect("an offset"))
    }

    /// Waits until a partition has this leader, and so many brokers have all of it.
    pub fn wait_for_leader(&self, (topic, partition): (&str, i32), leader: i32, in_sync: usize) {
        let client = self.admin();
        wait_for("leader", LONG, || {
            let wait = Duration::from_secs(2);
            let metadata = client.inner().fetch_metadata(Some(topic), wait).ok()?;
            let mut partitions = metadata.topics().first()?.partitions().iter();
            let found = partitions.find(|one| one.id() == partition)?;
            (found.leader() == leader && found.isr().len() == in_sync).then_some(())
        });
    }

    /// Where a partition ends, and where the first transaction begins that is open.
    pub fn ends(&self, topic: &str, partition: i32) -> (i64, i64) {
        let end = |isolation: &str| {
            let mut config = ClientConfig::new();
            config
                .set("bootstrap.servers", self.bootstrap())
                .set("group.id", "test")
                .set("isolation.level", isolation);
            let reader: BaseConsumer = config.create().expect("a consumer");
            let ends = reader.fetch_watermarks(topic, partition, LONG);
            ends.expect("an answer").1
        };
        (end("read_uncommitted"), end("read_committed"))
    }

    /// Waits until all that a partition has is counted, and that is committed.
    pub fn wait_for_checkpoint(&self, topic: &str, partition: i32) {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("group.id", format!("ale.{topic}"));
        let reader: BaseConsumer = config.create().expect("a consumer");
        let (end, _) = self.ends(topic, partition);
        wait_for("checkpoint", LONG, || {
            let mut asked = rdkafka::TopicPartitionList::new();
            asked.add_partition(topic, partition);
            let found = reader
                .committed_offsets(asked, Duration::from_secs(5))
                .ok()?;
            let found = found.find_partition(topic, partition)?.offset();
            (found == rdkafka::Offset::Offset(end)).then_some(())
        });
    }

    /// Waits until all brokers that run accept connections and one of them knows a controller.
    pub fn wait(&mut self) {
        let (host, bootstrap) = (self.host, self.bootstrap());
        for broker in &mut self.brokers {
            let port = broker.port;
            if let Some(process) = &mut broker.process {
                process.wait_for("open port", BOOT, || TcpStream::connect((host, port)).ok());
            }
        }
        let running = self.brokers.iter().filter(|one| one.process.is_some());
        let running = running.count();
        wait_for("brokers that know each other", BOOT, || {
            let client = self.admin();
            let metadata = client
                .inner()
                .fetch_metadata(None, Duration::from_secs(2))
                .ok()?;
            (metadata.brokers().len() >= running && !bootstrap.is_empty()).then_some(())
        });
    }

    /// What clients begin with.
    pub fn bootstrap(&self) -> String {
        let brokers = self.brokers.iter();
        let brokers = brokers.map(|broker| format!("{}:{}", self.host, broker.port));
        brokers.collect::<Vec<_>>().join(",")
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config.create().expect("a client")
    }

    /// Makes a topic with a replica on each broker, once the brokers are willing to.
    pub fn make_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let replicas = i32::try_from(self.brokers.len()).expect("a few");
        self.make_topic_with(replicas, name, partitions, settings);
    }

    /// The same with so many replicas.
    pub fn make_topic_with(
        &self,
        replicas: i32,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) {
        let replication = TopicReplication::Fixed(replicas);
        self.make(
            NewTopic::new(name, partitions, replication),
            partitions,
            settings,
        );
    }

    /// The same, each partition on these brokers; the first one leads it.
    pub fn make_topic_on(&self, name: &str, brokers: &[&[i32]], settings: &[(&str, &str)]) {
        let partitions = i32::try_from(brokers.len()).expect("a few");
        let replication = TopicReplication::Variable(brokers);
        self.make(
            NewTopic::new(name, partitions, replication),
            partitions,
            settings,
        );
    }

    fn make<'n>(&self, mut topic: NewTopic<'n>, partitions: i32, settings: &[(&'n str, &'n str)]) {
        let name = topic.name;
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        wait_for("topic", LONG, || {
            let made = block(self.admin().create_topics([&topic], &AdminOptions::new()));
            made.ok()?.into_iter().all(|one| one.is_ok()).then_some(())
        });
        // Leaders are elected a moment later.
        wait_for("leaders", LONG, || {
            let admin = self.admin();
            let metadata = admin
                .inner()
                .fetch_metadata(Some(name), Duration::from_secs(2));
            let metadata = metadata.ok()?;
            let partitions_there = metadata.topics().first()?.partitions();
            let all = partitions_there.iter().all(|one| one.leader() >= 0);
            (all && partitions_there.len() == partitions as usize).then_some(())
        });
    }

    /// The number of each partition's leader.
    pub fn leaders(&self, topic: &str) -> Vec<i32> {
        let admin = self.admin();
        let metadata = admin.inner().fetch_metadata(Some(topic), LONG);
        let metadata = metadata.expect("an answer");
        let partitions = metadata.topics()[0].partitions().iter();
        let mut leaders: Vec<_> = partitions.map(|one| (one.id(), one.leader())).collect();
        leaders.sort_unstable();
        leaders.into_iter().map(|(_, leader)| leader).collect()
    }

    /// Removes a topic.
    pub fn remove_topic(&self, name: &str) {
        let admin = self.admin();
        wait_for("removal of a topic", LONG, || {
            let removed = block(admin.delete_topics(&[name], &AdminOptions::new()));
            removed
                .ok()?
                .into_iter()
                .all(|one| one.is_ok())
                .then_some(())
        });
        wait_for("end of a topic", LONG, || {
            let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(2));
            let topics = metadata.ok()?;
            let is_gone = topics.topics().iter().all(|topic| topic.name() != name);
            is_gone.then_some(())
        });
    }

    /// Deletes the records of a partition before this offset, as its retention would.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = rdkafka::TopicPartitionList::new();
        let offset = rdkafka::Offset::Offset(offset);
        list.add_partition_offset(topic, partition, offset)
            .expect("an offset");
        let deleted = block(self.admin().delete_records(&list, &AdminOptions::new()));
        deleted.expect("they can be deleted");
    }

    /// Writes records, each with its key, and returns once the brokers have them.
    pub fn write<'r>(&self, topic: &str, records: impl IntoIterator<Item = (&'r str, String)>) {
        self.write_by("murmur2_random", topic, records);
    }

    /// The same with another way to place keys.
    pub fn write_by<'r>(
        &self,
        partitioner: &str,
        topic: &str,
        records: impl IntoIterator<Item = (&'r str, String)>,
    ) {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("partitioner", partitioner)
            .set("enable.idempotence", "true");
        let producer: ThreadedProducer<_> = config.create().expect("a producer");
        for (key, value) in records {
            let mut record = BaseRecord::to(topic).payload(&value);
            if !key.is_empty() {
                record = record.key(key);
            }
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("there is room");
        }
        producer.flush(LONG).expect("the brokers take them");
    }
}

/// A producer that waits for brokers as long as it takes.
pub fn producer(bootstrap: &str) -> ThreadedProducer<DefaultProducerContext> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", "0")
        .set("enable.idempotence", "true");
    config.create().expect("a producer")
}

/// Writes records to a partition in a transaction under this id, and leaves it open, as one does that is killed.
pub fn leave_transaction_open(
    bootstrap: &str,
    id: &str,
    (topic, partition): (&str, i32),
    records: &[(&str, &[u8])],
) {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", id);
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().expect("a producer");
    producer.init_transactions(LONG).expect("it may");
    producer.begin_transaction().expect("it may");
    for (key, value) in records {
        let record = BaseRecord::to(topic).partition(partition);
        let sent = producer.send(record.key(*key).payload(*value));
        sent.map_err(|(error, _)| error).expect("there is room");
    }
    producer.flush(LONG).expect("the brokers take them");
}

/// Sends a record, once there is room for it.
pub fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    key: &str,
    value: &str,
) {
    wait_for("room for a record", LONG, || {
        match producer.send(BaseRecord::to(topic).key(key).payload(value)) {
            Ok(()) => Some(()),
            Err((error, _)) => {
                let code = error.rdkafka_error_code();
                assert_eq!(code, Some(RDKafkaErrorCode::QueueFull), "{error}");
                None
            }
        }
    });
}

/// Writes a record to a partition, and returns once its leader has it.
pub fn write_to(
    producer: &ThreadedProducer<DefaultProducerContext>,
    (topic, partition): (&str, i32),
    key: &str,
    value: &str,
) {
    let record = BaseRecord::to(topic).partition(partition);
    let sent = producer.send(record.key(key).payload(value));
    sent.map_err(|(error, _)| error).expect("there is room");
    flush(producer);
}

/// Returns once the brokers have all that was sent.
pub fn flush(producer: &ThreadedProducer<DefaultProducerContext>) {
    producer.flush(LONG).expect("the brokers take them");
}

/// The password of all users.
pub const PASSWORD: &str = "open sesame";

/// Certificates, and the ports of a broker that asks for them.
pub struct Secured {
    directory: PathBuf,
    /// TLS and a login.
    pub login: u16,
    /// TLS and a client certificate.
    pub certificate: u16,
}

impl Secured {
    /// Writes `ca.pem`, `other-ca.pem`, `ale.pem`, `ale.key`, `password` and `wrong-password` into the directory, beside what
    /// the broker needs.
    pub fn new(directory: &Path) -> Self {
        let write = |name: &str, text: &str| {
            std::fs::write(directory.join(name), text).expect("it can be written");
        };
        let authority = |name: &str| {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = parameters.self_signed(&key).expect("a certificate");
            write(name, &certificate.pem());
            rcgen::Issuer::new(parameters, key)
        };
        let issuer = authority("ca.pem");
        authority("other-ca.pem");
        let leaf = |name: &str, hosts: Vec<String>| {
            let mut parameters = rcgen::CertificateParams::new(hosts).expect("names");
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            parameters
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = parameters.signed_by(&key, &issuer).expect("a certificate");
            (key.serialize_pem(), certificate.pem())
        };
        let (key, certificate) = leaf("broker", vec!["127.0.0.1".into()]);
        write("broker.pem", &format!("{key}{certificate}"));
        let (key, certificate) = leaf("ale", Vec::new());
        write("ale.key", &key);
        write("ale.pem", &certificate);
        write("password", &format!("{PASSWORD}\n"));
        write("wrong-password", "open barley\n");
        Self {
            directory: directory.to_owned(),
            login: free_port(),
            certificate: free_port(),
        }
    }

    fn settings(&self, port: u16, control: u16) -> String {
        let here = self.directory.display();
        let Self {
            login, certificate, ..
        } = self;
        let module = "org.apache.kafka.common.security";
        format!(
            "listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control},LOGIN://127.0.0.1:{login},\
             CERTIFICATE://127.0.0.1:{certificate}\n\
             listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL,CERTIFICATE:SSL\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.login.plain.sasl.jaas.config={module}.plain.PlainLoginModule required \
             user_ale=\"{PASSWORD}\" user_stranger=\"{PASSWORD}\";\n\
             listener.name.login.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             listener.name.login.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             ssl.keystore.type=PEM\nssl.keystore.location={here}/broker.pem\n\
             ssl.truststore.type=PEM\nssl.truststore.location={here}/ca.pem\n\
             listener.name.certificate.ssl.client.auth=required\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS;User:ale;User:CN=ale\n"
        )
    }
}

fn block<F: std::future::Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

/// Whether rsyslog can write to Kafka on this machine.
pub fn omkafka() -> bool {
    let libraries = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ];
    let mut libraries = libraries.iter().map(Path::new);
    libraries.any(|directory| directory.join("rsyslog/omkafka.so").exists())
}

/// Status and output of `check --kafka` with this configuration.
pub fn check_with_brokers(config: &str) -> (Option<i32>, String) {
    let mut command = binary();
    let output = command
        .args(["check", "--kafka", "--config.file", config])
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

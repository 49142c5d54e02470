#!/usr/bin/env bash
# kafka-up.sh WORKDIR PORT: start a node of a real Apache Kafka (KRaft) from its Maven jars on 127.0.0.1:PORT.
#   A second call with the same WORKDIR after a stop or kill restarts it on the same data.
#   The controller listens on KAFKA_CONTROLLER_PORT (PORT + 1).
#   KAFKA_LISTENER=NAME:PROTOCOL:PORT[:ADVERTISED]  a second listener, e.g. SECURE:SASL_SSL:9193; ADVERTISED is the port that
#     clients are sent to instead, of a proxy
#   KAFKA_SCRAM=USER:PASSWORD            make this SCRAM-SHA-512 user when the storage is formatted
#   KAFKA_NODE=ID KAFKA_VOTERS=ID@HOST:PORT,... KAFKA_CLUSTER_ID=...  one of several nodes, each broker and controller; start
#     them at the same time, as each waits for a majority
#   KAFKA_EXTRA="key=value\nkey=value"   further server properties, last wins
#   KAFKA_HEAP (256m), KAFKA_LOG (warn)
# Writes WORKDIR/{pid,bootstrap,stdout.log,server.properties,data/}; last line: "bootstrap=127.0.0.1:PORT pid=PID".
# The broker runs in its own session: whoever starts it stops it with kafka-down.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
work=${1:?usage: kafka-up.sh WORKDIR PORT} port=${2:?usage: kafka-up.sh WORKDIR PORT}
controller_port=${KAFKA_CONTROLLER_PORT:-$((port + 1))}
mkdir -p "$work"
work=$(cd "$work" && pwd)
jars=$("$here/kafka-jars.sh")

if [ -e "$work/pid" ] && process_is "$(cat "$work/pid")" "$work/server.properties"; then
  echo "already running: pid $(cat "$work/pid")" >&2
  exit 3
fi

IFS=: read -r name protocol second_port advertised_port <<<"${KAFKA_LISTENER:-}"

# Small offsets and transaction topics keep first use fast; the short broker session makes a restart after kill -9
# take seconds (the controller waits for the dead incarnation); the dedupe buffer's default needs half the heap.
cat >"$work/server.properties" <<P
process.roles=broker,controller
node.id=${KAFKA_NODE:-1}
controller.quorum.voters=${KAFKA_VOTERS:-1@127.0.0.1:$controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port${name:+,$name://127.0.0.1:$second_port}
advertised.listeners=PLAINTEXT://127.0.0.1:$port${name:+,$name://127.0.0.1:${advertised_port:-$second_port}}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT${name:+,$name:$protocol}
inter.broker.listener.name=PLAINTEXT
log.dirs=$work/data
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=2097152
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
controlled.shutdown.enable=true
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
P
[ -z "${KAFKA_EXTRA:-}" ] || printf '%b\n' "$KAFKA_EXTRA" >>"$work/server.properties"

jvm=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Djava.awt.headless=true -Djava.net.preferIPv4Stack=true)
# slf4j-simple logs to stderr without a configuration file.
simple=org.slf4j.simpleLogger
jvm+=("-D$simple.defaultLogLevel=${KAFKA_LOG:-warn}" "-D$simple.log.kafka.server.KafkaRaftServer=info"
  "-D$simple.log.org.apache.kafka.common.utils.AppInfoParser=error" "-D$simple.showDateTime=true"
  "-D$simple.dateTimeFormat=HH:mm:ss.SSS" "-D$simple.showThreadName=false" "-D$simple.showShortLogName=true")

if [ ! -e "$work/data/meta.properties" ]; then
  cluster_id=${KAFKA_CLUSTER_ID:-$(head -c16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c1-22)}
  users=()
  [ -z "${KAFKA_SCRAM:-}" ] || users=(--add-scram "SCRAM-SHA-512=[name=${KAFKA_SCRAM%%:*},password=${KAFKA_SCRAM#*:}]")
  java "${jvm[@]}" -Xmx64m -cp "$jars/*" kafka.tools.StorageTool format -t "$cluster_id" \
    -c "$work/server.properties" "${users[@]}" >"$work/format.log" 2>&1 || { cat "$work/format.log" >&2; exit 4; }
fi

: >"$work/stdout.log"
setsid java "${jvm[@]}" -Xms64m -Xmx"${KAFKA_HEAP:-256m}" -cp "$jars/*" kafka.Kafka "$work/server.properties" \
  >>"$work/stdout.log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$work/pid"
echo "127.0.0.1:$port" >"$work/bootstrap"
for _ in $(seq 600); do
  if ! kill -0 "$pid" 2>/dev/null; then
    echo "the broker died:" >&2
    tail -30 "$work/stdout.log" >&2
    rm -f "$work/pid"
    exit 5
  fi
  # The line comes after the broker is unfenced, so topics can be made and written at once.
  if grep -q "Kafka Server started" "$work/stdout.log" && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "bootstrap=127.0.0.1:$port pid=$pid"
    exit 0
  fi
  sleep 0.1
done
echo "the broker is not ready after 60 s:" >&2
tail -30 "$work/stdout.log" >&2
kill -KILL "$pid" 2>/dev/null || true
rm -f "$work/pid"
exit 6

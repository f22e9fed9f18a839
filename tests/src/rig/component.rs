//! The programs of a control plane: how each is started, and when it is ready.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use kube::Client;
use tokio::net::TcpStream;

use super::process::{Process, Program};
use crate::envoy;

/// Longest start of one component; a busy machine takes 10 s.
const START_LIMIT: Duration = Duration::from_secs(120);
/// From SIGTERM to SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The API server's store.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    Controllers,
    /// kube-scheduler.
    Scheduler,
    /// istiod, with its validating webhook.
    Istiod,
}

/// Where everything of one control plane is.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Programs: `.tools/rig`.
    pub(super) programs: PathBuf,
    /// Keys, certificates, configuration, the store.
    pub(super) folder: PathBuf,
    pub(super) logs: PathBuf,
}

/// One component, running or not.
#[derive(Debug)]
pub(super) struct Unit {
    component: Component,
    program: Program,
    process: Option<Process>,
}

// === impl Component ===

impl Component {
    /// In the order of starting; the order of stopping is the reverse: an API server without its store lingers.
    pub(super) const ALL: [Self; 5] = [
        Self::Etcd,
        Self::ApiServer,
        Self::Controllers,
        Self::Scheduler,
        Self::Istiod,
    ];

    /// Name of its log and of its process.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::Controllers => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Istiod => "istiod",
        }
    }

    fn binary(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer | Self::Controllers | Self::Scheduler => "kubernetes",
            Self::Istiod => "istiod",
        }
    }

    fn arguments(self, places: &Places) -> Vec<String> {
        let folder = places.folder.display();
        let text = match self {
            // Without fsync: the store lives as long as the test.
            Self::Etcd => format!(
                "--data-dir={folder}/etcd --unsafe-no-fsync --log-level=warn \
                 --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
                 --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
                 --initial-cluster=default=http://127.0.0.1:2380"
            ),
            // It makes its own certificate. It may not advertise loopback, and nobody asks for the address.
            // Of the admission plugins, those are off that add what no part of the rig serves: a token's volume to
            // pods, taints to new nodes.
            Self::ApiServer => format!(
                "kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address=127.0.0.1 --secure-port=6443 \
                 --advertise-address=192.0.2.1 --endpoint-reconciler-type=none --cert-dir={folder}/apiserver \
                 --service-cluster-ip-range=10.96.0.0/16 --token-auth-file={folder}/tokens.csv \
                 --authorization-mode=RBAC --profiling=false \
                 --service-account-issuer=https://kubernetes.default.svc \
                 --service-account-key-file={folder}/sa.pub --service-account-signing-key-file={folder}/sa.key \
                 --disable-admission-plugins=ServiceAccount,TaintNodesByCondition \
                 --audit-policy-file={folder}/audit.yaml --audit-log-path={folder}/audit.log"
            ),
            Self::Controllers => format!(
                "kube-controller-manager --kubeconfig={folder}/admin.kubeconfig --leader-elect=false \
                 --use-service-account-credentials=false --bind-address=127.0.0.1 --profiling=false \
                 --service-account-private-key-file={folder}/sa.key --horizontal-pod-autoscaler-sync-period=1s \
                 --controllers=deployment-controller,replicaset-controller,statefulset-controller,\
                 daemonset-controller,endpointslice-controller,namespace-controller,serviceaccount-controller,\
                 garbage-collector-controller,horizontal-pod-autoscaler-controller,node-lifecycle-controller,\
                 disruption-controller,pod-garbage-collector-controller"
            )
            .replace(",                 ", ","),
            Self::Scheduler => format!(
                "kube-scheduler --kubeconfig={folder}/admin.kubeconfig --leader-elect=false \
                 --bind-address=127.0.0.1 --profiling=false"
            ),
            Self::Istiod => format!(
                "discovery --kubeconfig={folder}/admin.kubeconfig --meshConfig={folder}/mesh.yaml --secureGRPCAddr= \
                 --grpcAddr=127.0.0.1:15010 --httpAddr=127.0.0.1:8080 --monitoringAddr=127.0.0.1:15014 --ctrlz_port=0 \
                 --httpsAddr=127.0.0.1:15017 --tlsCertFile={folder}/webhook.crt --tlsKeyFile={folder}/webhook.key \
                 --caCertFile={folder}/webhook-ca.crt"
            ),
        };
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn environment(self, places: &Places) -> Vec<(String, String)> {
        let istiod = [
            // Plain text: proxies have no certificates.
            ("ENABLE_CA_SERVER", "false"),
            ("INJECT_ENABLED", "false"),
            // These would put filters of Istio's own Envoy into the listeners; ours is the stock one.
            ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
            ("PILOT_ENABLE_ALPN_FILTER", "false"),
            // Its resources are not installed.
            ("PILOT_ENABLE_GATEWAY_API", "false"),
            ("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", "false"),
            // We register the webhook: istiod would need its own CA for it.
            ("VALIDATION_WEBHOOK_CONFIG_NAME", ""),
            ("POD_NAME", "istiod-rig"),
            ("POD_NAMESPACE", "istio-system"),
            ("CLUSTER_ID", "Kubernetes"),
        ];
        let home = ("HOME".to_owned(), places.folder.display().to_string());
        let own = istiod.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let is_istiod = self == Self::Istiod;
        std::iter::once(home)
            .chain(own.into_iter().filter(|_| is_istiod))
            .collect()
    }

    /// Whether it serves; else why not.
    async fn probe(self, places: &Places) -> Result<(), String> {
        match self {
            Self::Etcd => probe_http(2379, "/health").await,
            Self::ApiServer => probe_api_server(places).await,
            Self::Controllers => probe_port(10257).await,
            Self::Scheduler => probe_port(10259).await,
            Self::Istiod => probe_http(8080, "/ready").await,
        }
    }
}

// === impl Unit ===

impl Unit {
    pub(super) fn new(component: Component, places: &Places) -> Self {
        let binary = places.programs.join(component.binary());
        let mut program = Program::new(component.name(), binary, &component.arguments(places));
        program.environment = component.environment(places);
        Self {
            component,
            program,
            process: None,
        }
    }

    pub(super) fn component(&self) -> Component {
        self.component
    }

    /// Its process, if it runs.
    pub(super) fn id(&self) -> Option<i32> {
        Some(self.process.as_ref()?.id()?.as_raw_nonzero().get())
    }

    /// Starts it and waits until it serves.
    pub(super) async fn start(&mut self, places: &Places) -> anyhow::Result<()> {
        let mut process = self.program.start(&places.logs)?;
        let end = Instant::now() + START_LIMIT;
        while let Err(why) = self.component.probe(places).await {
            let pause = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! {
                how = process.ended() => bail!("{how}"),
                () = pause => {}
            }
            if Instant::now() > end {
                bail!(
                    "{} does not serve within {START_LIMIT:?}: {why}",
                    self.program.name
                );
            }
        }
        self.process = Some(process);
        Ok(())
    }

    /// Asks it to end, and makes it.
    pub(super) async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_GRACE).await;
        }
    }

    /// Ends it at once, as a crash would.
    pub(super) async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await;
        }
    }
}

async fn probe_http(port: u16, path: &str) -> Result<(), String> {
    let answer = envoy::get(([127, 0, 0, 1], port).into(), path).await?;
    if answer.status.is_success() {
        Ok(())
    } else {
        Err(format!("{path}: {}", answer.status))
    }
}

async fn probe_port(port: u16) -> Result<(), String> {
    let connected = TcpStream::connect(("127.0.0.1", port)).await;
    connected
        .map(drop)
        .map_err(|error| format!("port {port}: {error}"))
}

async fn probe_api_server(places: &Places) -> Result<(), String> {
    let client = super::client(&admin(places))
        .await
        .map_err(|error| format!("{error:#}"))?;
    readyz(&client).await.map_err(|error| error.to_string())
}

async fn readyz(client: &Client) -> anyhow::Result<()> {
    let request = hyper::Request::get("/readyz").body(Vec::new())?;
    client.request_text(request).await?;
    Ok(())
}

/// The administrator's kubeconfig.
pub(super) fn admin(places: &Places) -> PathBuf {
    places.folder.join("admin.kubeconfig")
}

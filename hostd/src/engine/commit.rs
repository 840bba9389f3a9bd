//! Commit: what a container has become, as an image on top of the one that it was made of.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Engine;
use super::container::{Command, Container};
use super::error::EngineError;
use super::signal::Signal;
use super::spec::ContainerSpec;
use super::state::ContainerState;
use crate::agent_client::{CallError, within};
use crate::image::{
    CommitError, CommitSpec, ImageConfig, ImageId, ImageStore, InvalidChange, LayerSpool, Reference,
};

/// Until the next piece of the layer; the largest of directories is compared within.
const PIECE_DEADLINE: Duration = Duration::from_secs(120);
/// Pieces of some 256 KiB that wait for the disk; more, and the agent waits.
const WAITING_PIECES: usize = 4;

/// What a client wants of a commit.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    pub name: Option<Reference>,
    /// The container stands still while it is read.
    pub pause: bool,
    pub author: String,
    pub comment: String,
    /// In place of the container's own, which says what this does not.
    pub config: Option<ImageConfig>,
    /// Instructions of a Dockerfile.
    pub changes: Vec<String>,
}

impl Engine {
    /// Makes an image of a container's files and configuration. A commit that has begun is brought to its end, whether its
    /// client waits for it or not: the container stands still meanwhile.
    ///
    /// # Errors
    /// No such container, one that is being removed, changes that are none; or a machine, the store or the disk fails.
    pub async fn commit(&self, name: &str, request: CommitRequest) -> Result<ImageId, EngineError> {
        let container = self.find(name)?;
        if container.current().state == ContainerState::Removing {
            let message = format!("You cannot commit container {} which is being removed", container.id);
            return Err(EngineError::conflict(message));
        }
        let engine = self.clone();
        let committing = tokio::spawn(async move { engine.commit_container(&container, request).await });
        committing.await.map_err(|error| EngineError::internal("cannot commit a container", &error))?
    }

    async fn commit_container(
        &self,
        container: &Arc<Container>,
        request: CommitRequest,
    ) -> Result<ImageId, EngineError> {
        let (spec, parent) = (container.spec(), container.image_id);
        let config = committed_config(own_config(&spec), &request)?;
        let layer = self.read_layer(container, request.pause).await?;
        let commit = CommitSpec {
            parent,
            name: request.name.clone(),
            config,
            author: request.author,
            comment: request.comment.clone(),
            created_by: spec.command.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" "),
        };
        let id = self.with_images(move |images| Ok(images.commit(layer, &commit)?)).await?;
        let name = request.name.map(|name| name.familiar()).unwrap_or_default();
        if !name.is_empty() {
            let image = self.resolve_image(&id.to_string()).await.ok();
            self.publish_image("tag", id.to_string(), name.clone(), image.as_ref());
        }
        let more = [("comment", request.comment), ("imageID", id.to_string()), ("imageRef", name)];
        container.publish("commit", more);
        Ok(id)
    }

    async fn read_layer(&self, container: &Arc<Container>, pause: bool) -> Result<LayerSpool, EngineError> {
        if pause {
            container.command(|reply| Command::StandStill { reply }).await??;
        }
        let read = read_layer_now(container, &self.shared.images).await;
        if pause {
            // A container that was removed meanwhile has nothing to go on with.
            container.command(|reply| Command::GoOn { reply }).await.unwrap_or_default();
        }
        read
    }
}

async fn read_layer_now(container: &Container, images: &ImageStore) -> Result<LayerSpool, EngineError> {
    let files = container.command(|reply| Command::OpenFiles { reply }).await??;
    let deadline = files.pace.deadline(PIECE_DEADLINE);
    let failed = |error: &CallError| {
        EngineError::internal(&format!("cannot read the changes of container {}", container.id), error)
    };
    let opening = files.agent.read_layer(container.id.as_str());
    let mut layer =
        within(deadline, "the begin of its layer", opening).await.map_err(|error| failed(&error))?;
    let (sender, pieces) = mpsc::channel(WAITING_PIECES);
    let images = images.clone();
    let spooling = tokio::task::spawn_blocking(move || spool(&images, pieces));
    let read = loop {
        match within(deadline, "more of its layer", layer.next()).await {
            Ok(Some(piece)) => {
                // The disk has failed, and tells why below.
                if sender.send(piece).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(failed(&error)),
        }
    };
    drop((sender, files));
    let spooled = spooling.await.map_err(|error| EngineError::internal("cannot keep a layer", &error))?;
    read.and(spooled.map_err(EngineError::from))
}

/// Ends with the sender, or at the disk's first error.
fn spool(images: &ImageStore, mut pieces: mpsc::Receiver<Bytes>) -> Result<LayerSpool, CommitError> {
    let mut layer = images.spool_layer()?;
    while let Some(piece) = pieces.blocking_recv() {
        layer.write(&piece)?;
    }
    Ok(layer)
}

/// A container's configuration in the words of images.
fn own_config(spec: &ContainerSpec) -> ImageConfig {
    ImageConfig {
        entrypoint: spec.entrypoint.clone(),
        cmd: spec.command.clone(),
        env: spec.env.clone(),
        working_dir: spec.working_directory.clone().unwrap_or_default(),
        user: spec.user.clone().unwrap_or_default(),
        labels: spec.labels.clone(),
        exposed_ports: spec.exposed_ports.iter().cloned().collect(),
        volumes: spec.mounts.own_volumes.clone(),
        stop_signal: spec.stop_signal.map(|signal| signal.to_string()),
        stop_timeout: spec.stop_timeout_s,
        shell: None,
        healthcheck: spec.healthcheck.as_ref().map(super::health::Healthcheck::document),
        on_build: None,
    }
}

fn committed_config(own: ImageConfig, request: &CommitRequest) -> Result<ImageConfig, EngineError> {
    let mut config = request.config.clone().unwrap_or_else(|| own.clone());
    config.change(request.changes.iter().map(String::as_str))?;
    let config = config.or(own);
    if let Some(signal) = &config.stop_signal {
        signal.parse::<Signal>().map_err(|invalid| EngineError::invalid(invalid.to_string()))?;
    }
    Ok(config)
}

impl From<InvalidChange> for EngineError {
    fn from(error: InvalidChange) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<CommitError> for EngineError {
    fn from(error: CommitError) -> Self {
        match &error {
            CommitError::NoSuchImage(_) => Self::not_found(error.to_string()),
            CommitError::TooManyLayers(_) | CommitError::Incomplete(_) => Self::conflict(error.to_string()),
            CommitError::Layer(_) | CommitError::Arrival(_) | CommitError::Store(_) => {
                Self::internal("cannot commit a container", &error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{ErrorKind, Healthcheck, MountRequests};

    fn spec() -> ContainerSpec {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        ContainerSpec {
            command: Some(words(&["sh", "-c", "true"])),
            env: words(&["A=1", "B=2"]),
            working_directory: Some("/srv".into()),
            labels: [("own".to_owned(), "1".to_owned())].into(),
            healthcheck: Some(Healthcheck {
                test: words(&["CMD", "true"]),
                retries: 2,
                ..Healthcheck::default()
            }),
            stop_signal: "SIGINT".parse().ok(),
            mounts: MountRequests { own_volumes: ["/data".to_owned()].into(), ..MountRequests::default() },
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn without_more_the_image_runs_as_the_container_did() {
        let own = own_config(&spec());
        let config = committed_config(own.clone(), &CommitRequest::default()).unwrap();
        assert_eq!(config, own);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(config.healthcheck.unwrap()["Retries"], 2);
        assert!(config.volumes.contains("/data"));
        let again = ContainerSpec::default().with_image_defaults(&own);
        assert_eq!((again.args(), again.env), (spec().args(), spec().env));
    }

    #[test]
    fn changes_come_on_top_and_what_the_request_does_not_say_is_the_containers() {
        let request = CommitRequest {
            config: Some(ImageConfig { env: vec!["B=3".into(), "C=4".into()], ..ImageConfig::default() }),
            changes: vec!["USER nobody".into(), "LABEL new=2".into()],
            ..CommitRequest::default()
        };
        let config = committed_config(own_config(&spec()), &request).unwrap();
        assert_eq!(config.env, ["B=3", "C=4", "A=1"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("nobody", "/srv"));
        assert_eq!(config.labels.len(), 2);
        assert_eq!(config.cmd.unwrap().len(), 3);
    }

    #[test]
    fn an_entrypoint_of_its_own_leaves_the_containers_command_out() {
        let request =
            CommitRequest { changes: vec!["ENTRYPOINT [\"/x\"]".into()], ..CommitRequest::default() };
        let config = committed_config(own_config(&spec()), &request).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (Some(vec!["/x".into()]), None));
        let request = CommitRequest { changes: vec!["RUN x".into()], ..CommitRequest::default() };
        let error = committed_config(own_config(&spec()), &request).unwrap_err();
        assert_eq!(error.to_string(), "RUN is not a valid change command");
        let request = CommitRequest { changes: vec!["STOPSIGNAL BAD".into()], ..CommitRequest::default() };
        let error = committed_config(own_config(&spec()), &request).unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::InvalidParameter, "invalid signal: BAD")
        );
    }
}

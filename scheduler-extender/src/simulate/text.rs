//! The answer as a page to read.

use std::fmt::{self, Display, Formatter};

use super::{CameTo, NodesRefused, PodShown, Simulation};

impl Display for Simulation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for workload in &self.workloads {
            let (namespace, name) = (&workload.namespace, &workload.name);
            writeln!(
                f,
                "{} {namespace}/{name}, {} pods",
                workload.kind, workload.replicas
            )?;
        }
        writeln!(
            f,
            "{} of {} pods would find a node for their volumes",
            self.placed,
            self.pods.len()
        )?;
        for pod in &self.pods {
            writeln!(f)?;
            pod.fmt(f)?;
        }
        writeln!(f)?;
        for field in &self.set_but_not_considered {
            writeln!(f, "not considered: {field}")?;
        }
        writeln!(f, "never considered: {}", self.not_considered.join("; "))?;
        if !self.ignored.is_empty() {
            writeln!(f, "ignored: {}", self.ignored.join(", "))?;
        }
        Ok(())
    }
}

impl Display for PodShown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.came_to {
            CameTo::Placed {
                node,
                score,
                asks,
                volumes,
                also_fit,
                others,
            } => {
                writeln!(
                    f,
                    "{}: {node}, {} points; {also_fit} more would do",
                    self.pod, score.points
                )?;
                for asked in asks {
                    write!(f, "  {asked}")?;
                    let planned = volumes.iter().find(|planned| planned.claim == asked.claim);
                    for (i, place) in planned
                        .iter()
                        .flat_map(|planned| &planned.copies)
                        .enumerate()
                    {
                        let word = if i == 0 { ":" } else { "," };
                        write!(f, "{word} {} on {}", place.pool, place.node)?;
                    }
                    writeln!(f)?;
                }
                others.fmt(f)?;
            }
            CameTo::Nowhere {
                sentence,
                asks,
                others,
            } => {
                writeln!(f, "{}: nowhere: {sentence}", self.pod)?;
                asks.iter().try_for_each(|asked| writeln!(f, "  {asked}"))?;
                others.fmt(f)?;
            }
            CameTo::NotOurs => writeln!(f, "{}: anywhere, it has no volumes of ours", self.pod)?,
            CameTo::Unknown { sentence, .. } | CameTo::NotTried { sentence } => {
                writeln!(f, "{}: {sentence}", self.pod)?;
            }
        }
        match &self.waits_for {
            Some(pod) => writeln!(f, "  it is made only once {pod} runs"),
            None => Ok(()),
        }
    }
}

impl Display for NodesRefused {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        for group in &self.refused {
            let nodes = group.nodes[..group.nodes.len().min(SHOWN)].join(", ");
            write!(f, "  not {nodes}")?;
            if group.count > SHOWN {
                write!(f, " and {} more", group.count - SHOWN)?;
            }
            writeln!(f, ": {}", group.why.sentence)?;
        }
        let told: usize = self.refused.iter().map(|group| group.count).sum();
        if told < self.refused_nodes {
            writeln!(f, "  not {} more nodes", self.refused_nodes - told)?;
        }
        Ok(())
    }
}

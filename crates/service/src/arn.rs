//! ARNs of jobs, models, bases and what is made of them.

use outcrop_job::home::is_id;

/// The kinds of resources that have an ARN with an id of twelve letters and digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A customization job.
    Job,
    /// A custom model.
    Model,
    /// A deployment of a custom model.
    Deployment,
    /// Provisioned throughput.
    Provisioned,
    /// An evaluation job.
    Evaluation,
}

impl Kind {
    /// The ARN's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "model-customization-job",
            Self::Model => "custom-model",
            Self::Deployment => "custom-model-deployment",
            Self::Provisioned => "provisioned-model",
            Self::Evaluation => "evaluation-job",
        }
    }

    fn all() -> [Self; 5] {
        [Self::Job, Self::Model, Self::Deployment, Self::Provisioned, Self::Evaluation]
    }
}

/// `arn:aws:bedrock:REGION:ACCOUNT:KIND/[BASE/]ID`; jobs and models have the id of their base in it.
pub fn resource(kind: Kind, region: &str, account: &str, base_id: &str, id: &str) -> String {
    let kind_name = kind.as_str();
    match kind {
        Kind::Job | Kind::Model => format!("arn:aws:bedrock:{region}:{account}:{kind_name}/{base_id}/{id}"),
        _ => format!("arn:aws:bedrock:{region}:{account}:{kind_name}/{id}"),
    }
}

/// `arn:aws:bedrock:REGION::foundation-model/ID`.
pub fn foundation(region: &str, model_id: &str) -> String {
    format!("arn:aws:bedrock:{region}::foundation-model/{model_id}")
}

/// The model id in a foundation model's ARN.
pub fn foundation_id(arn: &str) -> Option<&str> {
    let rest = resource_part(arn)?;
    rest.strip_prefix("foundation-model/").filter(|id| !id.is_empty())
}

/// Kind and id of a resource's ARN. Region, account and base are not looked at: ids are unique on a machine.
pub fn parse(arn: &str) -> Option<(Kind, &str)> {
    let (name, path) = resource_part(arn)?.split_once('/')?;
    let kind = Kind::all().into_iter().find(|kind| kind.as_str() == name)?;
    let id = path.rsplit('/').next()?;
    is_id(id).then_some((kind, id))
}

/// What follows `arn:PARTITION:bedrock:REGION:ACCOUNT:`.
fn resource_part(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let known = parts.next()? == "arn" && parts.next()?.starts_with("aws") && parts.next()? == "bedrock";
    let (_region, _account, rest) = (parts.next()?, parts.next()?, parts.next()?);
    known.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_bedrocks_and_come_apart_again() {
        let job = resource(Kind::Job, "us-east-1", "123456789012", "amazon.titan-text-express-v1:0:8k", "abcdefghijk1");
        assert_eq!(
            job,
            "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/amazon.titan-text-express-v1:0:8k/abcdefghijk1"
        );
        assert_eq!(parse(&job), Some((Kind::Job, "abcdefghijk1")));
        let deployment = resource(Kind::Deployment, "us-east-1", "123456789012", "x.y", "abcdefghijk1");
        assert_eq!(deployment, "arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/abcdefghijk1");
        assert_eq!(parse(&deployment), Some((Kind::Deployment, "abcdefghijk1")));
        let base = foundation("eu-west-1", "amazon.nova-micro-v1:0:128k");
        assert_eq!(foundation_id(&base), Some("amazon.nova-micro-v1:0:128k"));
        for other in ["", "arn:aws:s3:::bucket/key", "arn:aws:bedrock:r:a:custom-model/b/../../x", "abcdefghijk1"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}

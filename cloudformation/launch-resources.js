// What a launch of the default pool may name (of others: pool-templates.js): this template, its image, and the workers' subnets and security groups, each by its ARN.
// Subnets and groups are lists of any length, which CloudFormation's functions do not turn into lists of ARNs.
"use strict";

const { image, imageParameterId, templatesFor } = require("../scripts/worker-pools.js");

const listed = (text) => String(text ?? "").split(",");

module.exports = async ({ resolveVariable }) => {
  // The owner's account stands in the ARN of a shared subnet.
  const named = (kind) => (id) => ({ "Fn::Sub": `arn:\${AWS::Partition}:ec2:\${AWS::Region}:*:${kind}/${id}` });
  const [first] = await templatesFor(async (name) => resolveVariable(`param:${name}, ""`));
  const deployed = { "Fn::If": ["HasWorkerImage", image(await resolveVariable("param:workerImageId")), image("${WorkerImage}")] };
  const own = first.imageId || (first.imageParameter && `\${${imageParameterId(first)}}`);
  return [
    { "Fn::Sub": "arn:${AWS::Partition}:ec2:${AWS::Region}:${AWS::AccountId}:launch-template/${WorkerLaunchTemplate}" },
    own ? image(own) : deployed,
    ...listed(await resolveVariable("param:workerSubnetIds")).map(named("subnet")),
    ...listed(await resolveVariable("param:workerSecurityGroupIds")).map(named("security-group")),
  ];
};

// What the policy's pools need beside the first one's launch template: of each further one a copy of WorkerLaunchTemplate
// with an image, a volume and user data of its own, the public parameters that name their images, and the right to launch
// from them and into the pools' own subnets.
"use strict";

const { workerUserData } = require("../scripts/embedded-scripts.js");
const { hasPolicy, image, imageOf, imageParameterId, launchTemplate, logicalId, subnet, templatesFor } = require("../scripts/worker-pools.js");

const parameters = (templates) =>
  Object.fromEntries(
    templates
      .filter(({ imageParameter }) => imageParameter)
      .map((template) => [
        imageParameterId(template),
        {
          Type: "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
          Default: template.imageParameter,
          Description: `The public parameter that names the AMI of pool ${template.pool} (${template.arch})`,
        },
      ]),
  );

// As LaunchPolicy of iam.yml, whose other statements hold for these launches too: apart from it, since IAM takes 6,144
// characters a policy.
const launchPolicy = (templates, workerImageId) => {
  const others = templates.slice(1);
  const ids = [...new Set(others.map((one) => imageOf(one, workerImageId)).map((id) => JSON.stringify(id)))].map((id) => JSON.parse(id));
  const named = (id) => {
    if (typeof id === "string") return image(id);
    if (id.Ref) return image(`\${${id.Ref}}`);
    const [condition, given, { Ref }] = id["Fn::If"];
    return { "Fn::If": [condition, image(given), image(`\${${Ref}}`)] };
  };
  const subnets = [...new Set(templates.flatMap(({ subnets }) => subnets))];
  const statements = [
    {
      Sid: "LaunchWherePoolsBelong",
      Effect: "Allow",
      Action: ["ec2:CreateFleet", "ec2:RunInstances"],
      Resource: [...others.map(launchTemplate), ...ids.map(named), ...subnets.map(subnet)],
    },
  ];
  if (others.length > 0) {
    statements.push({
      Sid: "LaunchThePoolTemplatesImages",
      Effect: "Allow",
      Action: "ec2:RunInstances",
      Resource: ["image", "snapshot"].map((kind) => ({ "Fn::Sub": `arn:\${AWS::Partition}:ec2:\${AWS::Region}::${kind}/*` })),
      Condition: { ArnEquals: { "ec2:LaunchTemplate": others.map(launchTemplate) }, Bool: { "ec2:IsLaunchTemplateResource": "true" } },
    });
  }
  return {
    Type: "AWS::IAM::ManagedPolicy",
    Properties: {
      Description: "Launch workers of the policy's further pools",
      PolicyDocument: { Version: "2012-10-17", Statement: statements },
    },
  };
};

module.exports = async ({ resolveVariable }) => {
  const param = async (name) => resolveVariable(`param:${name}, ""`);
  const templates = await templatesFor(param);
  const workerImageId = await param("workerImageId");
  const Resources = {};
  if (hasPolicy(templates)) Resources.PoolLaunchPolicy = launchPolicy(templates, workerImageId);
  const others = templates.slice(1);
  const first = others.length > 0 && (await resolveVariable("file(cloudformation/workers.yml):Resources.WorkerLaunchTemplate"));
  for (const template of others) {
    const copy = structuredClone(first);
    const data = copy.Properties.LaunchTemplateData;
    data.ImageId = imageOf(template, workerImageId);
    data.BlockDeviceMappings[0].Ebs.VolumeSize = template.volumeGb ?? (await param("workerVolumeGb"));
    data.UserData = await workerUserData(param, template);
    Resources[logicalId(template)] = copy;
  }
  return { Parameters: parameters(templates), Resources };
};

import { Type } from 'typebox';
import { forAdmins, get, post } from './route.ts';

export const listRequests = forAdmins(
  get(['/v1/requests'], 'Every open request, and why those that wait do. For administrators.', ({ context: { models } }) => ({
    object: 'list',
    data: models.served.flatMap(({ engine, names }) =>
      engine.requests().map((report) => ({
        id: report.id,
        object: 'request',
        model: names[0],
        choice: report.choice,
        status: report.status,
        tenant: report.tenant,
        priority: report.priority,
        age_ms: Math.round(report.ageMs),
        prompt_tokens: report.promptTokens,
        output_tokens: report.outputTokens,
        computed_tokens: report.computedTokens,
        preemptions: report.preemptions,
        ...(report.kvCache === undefined ? {} : { kv_cache: report.kvCache }),
        waits_for: report.waitsFor,
        why: report.why,
      })),
    ),
  })),
);

const policyBody = Type.Object({
  model: Type.Optional(Type.Union([Type.String(), Type.Null()], { description: 'Served name; may be left out when one model is served.' })),
  policy: Type.String({ maxLength: 100, description: 'Name of the policy, as of `--scheduling-policy`.' }),
});

export const switchPolicy = forAdmins(
  post(
    ['/v1/scheduling-policy'],
    'Switches the scheduling policy of a model, for waiting requests too. For administrators.',
    policyBody,
    ({ context: { models }, body, request }) => {
      const { engine, names } = models.find(body.model);
      engine.useSchedulingPolicy(body.policy);
      request.log.info({ model: names[0], policy: body.policy }, 'scheduling policy switched');
      return { model: names[0], policy: body.policy };
    },
  ),
);

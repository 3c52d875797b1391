/** `millrace convert`: a model in another format. */
import { Command, Option } from 'commander';
import { MillraceError } from '../../base/errors.ts';
import type { QuantizeTarget } from '../../engine/quantize-at-load.ts';
import { convertModel } from '../../quantize/convert.ts';
import type { CliContext } from '../context.ts';
import { Progress } from '../progress.ts';

interface Flags {
  to: 'safetensors' | 'gguf';
  quantize: QuantizeTarget;
  dtype?: keyof typeof dtypes;
  force?: boolean;
  json?: boolean;
}

const dtypes = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' } as const;

export function convertCommand(context: CliContext): Command {
  const command = new Command('convert')
    .description('write a model as a folder of safetensors or as a GGUF file, its weights rounded if asked; the result loads as it stands')
    .argument('<model>', 'folder of the model, GGUF file, or name on the Hugging Face hub')
    .argument('<target>', 'folder or .gguf file to write')
    .addOption(new Option('--to <format>', 'what to write').choices(['safetensors', 'gguf']).default('safetensors'))
    .addOption(
      new Option('--quantize <format>', 'round F32, F16 and BF16 weights, as serve --quantize does')
        .choices(['none', 'int8', 'int8-channel', 'int4', 'fp8'])
        .default('none'),
    )
    .addOption(
      new Option(
        '--dtype <type>',
        'widen to this what the target has no format for, which takes more space; such weights are refused otherwise',
      ).choices(Object.keys(dtypes)),
    )
    .option('--force', 'replace the target if it exists')
    .option('--json', 'print the result as JSON');
  return command.action(async (model: string, target: string) => {
    const { to, quantize, dtype, force, json } = command.opts<Flags>();
    const progress = new Progress(context.stderr, { quiet: json === true });
    const stop = new AbortController();
    const stopListening = context.onSignal((signal) =>
      stop.abort(new MillraceError('REQUEST_ABORTED', `Stopped by ${signal}; nothing was written.`)),
    );
    try {
      const result = await convertModel(model, target, {
        to,
        quantize,
        ...(dtype === undefined ? {} : { dtype: dtypes[dtype] }),
        force: force === true,
        signal: stop.signal,
        onNotice: (line) => context.stderr.write(`${line}\n`),
        onProgress: (done, total) => progress.update('write', done, total),
      });
      progress.stop();
      const formats = Object.entries(result.formats).map(([format, count]) => `${count} matrices in ${format}`);
      context.stdout.write(
        json ? `${JSON.stringify(result)}\n` : `${result.path}: ${(result.sizeBytes / 2 ** 20).toFixed(1)} MiB, ${formats.join(', ')}\n`,
      );
    } finally {
      progress.stop();
      stopListening();
    }
  });
}

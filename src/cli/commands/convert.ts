/** `millrace convert`: a model in another format. */
import { Command, Option } from 'commander';
import type { QuantizeTarget } from '../../engine/quantize-at-load.ts';
import { convertModel } from '../../quantize/convert.ts';
import type { CliContext } from '../context.ts';
import { Progress } from '../progress.ts';

export function convertCommand(context: CliContext): Command {
  const command = new Command('convert')
    .description('write a Hugging Face folder as safetensors, its weights rounded if asked; the result loads as it stands')
    .argument('<model>', 'folder of the model')
    .argument('<target>', 'folder to write')
    .addOption(new Option('--to <format>', 'what to write').choices(['safetensors']).default('safetensors'))
    .addOption(
      new Option('--quantize <format>', 'round F32, F16 and BF16 weights, as serve --quantize does')
        .choices(['none', 'int8', 'int4', 'fp8'])
        .default('none'),
    )
    .option('--force', 'replace the target if it exists')
    .option('--json', 'print the result as JSON');
  return command.action((model: string, target: string) => {
    const { quantize, force, json } = command.opts<{ quantize: QuantizeTarget; force?: boolean; json?: boolean }>();
    const progress = new Progress(context.stderr, { quiet: json === true });
    try {
      const result = convertModel(model, target, {
        quantize,
        force: force === true,
        onProgress: (done, total) => progress.update('write', done, total),
      });
      progress.stop();
      const formats = Object.entries(result.formats).map(([format, count]) => `${count} matrices in ${format}`);
      context.stdout.write(
        json ? `${JSON.stringify(result)}\n` : `${result.path}: ${(result.sizeBytes / 2 ** 20).toFixed(1)} MiB, ${formats.join(', ')}\n`,
      );
    } finally {
      progress.stop();
    }
  });
}

import type { BuildOptions } from '../plan/builder.ts';
import type { Plan } from '../plan/plan.ts';
import type { DecoderFeatures, Stage } from './blocks/decoder-features.ts';
import type { EncoderFeatures } from './blocks/encoder.ts';
import type { ConfigReader } from './config-reader.ts';
import type { GgufFamily } from './gguf-names.ts';

/** A model family: from a checkpoint's configuration to a plan. One file and one line in `index.ts`. */
export interface ModelFamily {
  readonly name: string;
  /** Entries of `architectures` in `config.json` that this family reads. */
  readonly architectures: readonly string[];
  /** What it has beyond Llama 2, in a line of Markdown, led by the models when the name does not tell: its row in docs/models.md. */
  readonly summary: string;
  /** Published parts of such models that tests hold to other people's results, for the same row. */
  readonly published?: {
    /** llama.cpp's names of vocabularies (test/tokenizer/vectors.test.ts). */
    readonly vocabularies?: readonly string[];
    /** Files of chat templates, without `.jinja` (src/chat/goldens.test.ts). */
    readonly templates?: readonly string[];
  };
  /**
   * Reads and checks the configuration. `hasTensor` answers for the checkpoint, where two spellings of its names are in use.
   * @throws MODEL_CONFIG_INVALID naming the field
   */
  features(config: ConfigReader, hasTensor: (name: string) => boolean): DecoderFeatures;
  /** Writes the plan, of a run of layers if asked. */
  build(features: DecoderFeatures, options: BuildOptions, stage?: Stage): Plan;
  /** How GGUF files of this family differ, if they exist. */
  readonly gguf?: GgufFamily;
}

/** A family of encoders: texts in, hidden states out. One file and one line in the second table of `index.ts`. */
export interface EncoderFamily extends Pick<ModelFamily, 'name' | 'architectures' | 'summary' | 'published'> {
  /** Reads and checks the configuration, as that of `ModelFamily`. @throws MODEL_CONFIG_INVALID naming the field */
  features(config: ConfigReader, hasTensor: (name: string) => boolean): EncoderFeatures;
  build(features: EncoderFeatures, options: BuildOptions): Plan;
}

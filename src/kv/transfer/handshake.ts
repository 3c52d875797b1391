/**
 * The start of a connection: both sides show that they speak the same protocol and know the same secret, neither sends it. Each proves it with an HMAC over
 * both sides' random numbers, so what an eavesdropper has seen is of no use in another connection. Blocks themselves are not encrypted.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { type FrameSocket, frameTypes, transferFailed } from './frames.ts';

const MAGIC = Buffer.from('millrace kv');
const VERSION = 1;
const NONCE_BYTES = 32;

/** @throws KV_TRANSFER_FAILED where the other side speaks something else or does not know the secret */
export async function shakeHands(frames: FrameSocket, side: 'client' | 'server', secret: string): Promise<void> {
  const own = randomBytes(NONCE_BYTES);
  await frames.write(frameTypes.hello, MAGIC, Buffer.from([VERSION]), own);
  const theirs = readHello(await frames.expect(frameTypes.hello, 256));
  const [clientNonce, serverNonce] = side === 'client' ? [own, theirs] : [theirs, own];
  const proofOf = (who: string) => createHmac('sha256', secret).update(MAGIC).update(who).update(clientNonce).update(serverNonce).digest();
  // the client first: a server shows nobody who does not know the secret that it does
  if (side === 'client') await frames.write(frameTypes.proof, proofOf('client'));
  const proof = await frames.expect(frameTypes.proof, 32);
  const expected = proofOf(side === 'client' ? 'server' : 'client');
  if (proof.byteLength !== expected.byteLength || !timingSafeEqual(proof, expected)) throw transferFailed('the secrets of the two sides differ');
  if (side === 'server') await frames.write(frameTypes.proof, proofOf('server'));
}

function readHello(payload: Buffer): Buffer {
  const at = MAGIC.byteLength;
  if (payload.byteLength !== at + 1 + NONCE_BYTES || !payload.subarray(0, at).equals(MAGIC))
    throw transferFailed('the other side is no KV server of Millrace');
  if (payload[at] !== VERSION) throw transferFailed(`the other side speaks version ${payload[at]} of the protocol, this one ${VERSION}`);
  return Buffer.from(payload.subarray(at + 1));
}

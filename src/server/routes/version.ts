import { version as packageVersion } from '../../base/version.ts';
import { get } from './route.ts';

export const version = get(['/version'], 'Version of the server.', () => ({ version: packageVersion }), { isOpen: true });

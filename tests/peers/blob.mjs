// blob.mjs - the storage's own SDK on a command line, for tests: what a user of gatecap would use.
//
// The account is Azurite's published development account unless AZURE_ACCOUNT and AZURE_KEY are set.
// BLOB_ENDPOINT: the service URL, such as http://127.0.0.1:10000/devstoreaccount1
// BLOB_CONTAINER: the container (default "captures").
//
//   node blob.mjs create-container
//   node blob.mjs sas CONTAINER [--permissions cw] [--expires-minutes N] [--start MINUTES]
//                 [--account] [--services b] [--resource-types co] [--protocol https] [--blob NAME]
//   node blob.mjs list | download BLOB FILE | properties BLOB
import { webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import {
  AccountSASPermissions, AccountSASResourceTypes, AccountSASServices, BlobSASPermissions,
  BlobServiceClient, ContainerSASPermissions, SASProtocol, StorageSharedKeyCredential,
  generateAccountSASQueryParameters, generateBlobSASQueryParameters,
} from '@azure/storage-blob';

// The SDK calls the global `crypto`, which Debian 12's node (18) does not have by itself.
globalThis.crypto ??= webcrypto;

// Published in the emulator's documentation; it protects nothing.
const EMULATOR_KEY =
  'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

const account = process.env.AZURE_ACCOUNT ?? 'devstoreaccount1';
const credential = new StorageSharedKeyCredential(account, process.env.AZURE_KEY ?? EMULATOR_KEY);
const endpoint = process.env.BLOB_ENDPOINT;
const container = process.env.BLOB_CONTAINER ?? 'captures';

function client() {
  const options = { retryOptions: { maxTries: 1 } };
  if (process.env.BLOB_CA_FILE)
    options.tlsOptions = { ca: readFileSync(process.env.BLOB_CA_FILE) };
  return new BlobServiceClient(endpoint, credential, options).getContainerClient(container);
}

function sas(name, opt) {
  const minutes = (n) => new Date(Date.now() + Number(n) * 60000);
  const common = {
    startsOn: opt.start === undefined ? undefined : minutes(opt.start),
    expiresOn: minutes(opt['expires-minutes']),
    protocol: opt.protocol === 'https' ? SASProtocol.Https : undefined,
  };
  let query;
  if (opt.account)
    query = generateAccountSASQueryParameters({
      ...common,
      permissions: AccountSASPermissions.parse(opt.permissions),
      services: AccountSASServices.parse(opt.services).toString(),
      resourceTypes: AccountSASResourceTypes.parse(opt['resource-types']).toString(),
    }, credential);
  else
    query = generateBlobSASQueryParameters({
      ...common,
      containerName: name,
      blobName: opt.blob,
      permissions: (opt.blob ? BlobSASPermissions : ContainerSASPermissions).parse(opt.permissions),
    }, credential);
  return `${endpoint}/${name}${opt.blob ? `/${opt.blob}` : ''}?${query}`;
}

async function properties(name) {
  const p = await client().getBlobClient(name).getProperties();
  return {
    length: p.contentLength, type: p.contentType, blobType: p.blobType,
    md5: p.contentMD5 ? Buffer.from(p.contentMD5).toString('hex') : null,
  };
}

async function list() {
  const names = [];
  for await (const blob of client().listBlobsFlat())
    names.push(blob.name);
  return names;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    permissions: { type: 'string', default: 'cw' },
    'expires-minutes': { type: 'string', default: '120' },
    start: { type: 'string' },
    account: { type: 'boolean', default: false },
    services: { type: 'string', default: 'b' },
    'resource-types': { type: 'string', default: 'co' },
    protocol: { type: 'string' },
    blob: { type: 'string' },
  },
});
const [verb, ...rest] = positionals;

switch (endpoint === undefined ? undefined : verb) {
  case 'create-container':
    await client().createIfNotExists();
    break;
  case 'sas':
    console.log(sas(rest[0], values));
    break;
  case 'list':
    console.log(JSON.stringify(await list()));
    break;
  case 'download':
    await client().getBlobClient(rest[0]).downloadToFile(rest[1]);
    break;
  case 'properties':
    console.log(JSON.stringify(await properties(rest[0])));
    break;
  default:
    console.error('BLOB_ENDPOINT=URL node blob.mjs create-container | sas CONTAINER [options] | list'
      + ' | download BLOB FILE | properties BLOB');
    process.exit(2);
}

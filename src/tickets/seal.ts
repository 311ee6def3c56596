/** What is signed, and what is believed because it was. */
import { createSecretKey, type KeyObject } from 'node:crypto'
import { CompactSign, compactVerify, errors } from 'jose'

/** What a token is for; one kind never passes for another. */
export type SealType = 'sse-ticket' | 'sse-resume'

/** What is wrong with a token that says nothing to be believed. */
export type Flaw = 'malformed' | 'algorithm' | 'signature'

const ALGORITHM = 'HS256'

export class Seal {
  readonly #keys: readonly KeyObject[]

  /** The first one signs; all of them verify. */
  constructor(secrets: readonly Uint8Array[]) {
    this.#keys = secrets.map(secret => createSecretKey(secret))
  }

  sign(type: SealType, payload: object): Promise<string> {
    const [key] = this.#keys as [KeyObject]
    return new CompactSign(new TextEncoder().encode(JSON.stringify(payload)))
      .setProtectedHeader({ alg: ALGORITHM, typ: type })
      .sign(key)
  }

  /** What was signed with one of the secrets as a token of this type; its times are not looked at. */
  async open(type: SealType, token: string): Promise<Record<string, unknown> | Flaw> {
    let flaw: Flaw = 'signature'
    for (const key of this.#keys) {
      try {
        // A list of our own: what the token says of its algorithm is the attacker's.
        const verified = await compactVerify(token, key, { algorithms: [ALGORITHM] })
        return verified.protectedHeader.typ === type ? parse(verified.payload) : 'malformed'
      } catch (error) {
        flaw = flawOf(error)
      }
    }
    return flaw
  }
}

function parse(payload: Uint8Array): Record<string, unknown> | Flaw {
  const value: unknown = JSON.parse(new TextDecoder().decode(payload))
  return typeof value === 'object' && value !== null ? { ...value } : 'malformed'
}

function flawOf(error: unknown): Flaw {
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'signature'
  if (error instanceof errors.JOSEAlgNotAllowed) return 'algorithm'
  if (error instanceof errors.JOSEError || error instanceof SyntaxError) return 'malformed'
  throw error
}

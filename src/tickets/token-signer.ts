/** Signs and verifies the tokens in tickets and cookies: JSON Web Signatures (RFC 7515) by HS256. */
import { createSecretKey, type KeyObject } from 'node:crypto'
import { CompactSign, compactVerify, errors } from 'jose'

/** Signed as the header `typ`, so that a cookie's value never passes as a ticket, nor the reverse. */
export type TokenType = 'sse-ticket' | 'sse-resume'

/** Why a token could not be verified. */
export type VerifyFailure = 'malformed' | 'algorithm' | 'signature'

const ALGORITHM = 'HS256'

export class TokenSigner {
  readonly #keys: readonly KeyObject[]

  /** The first secret signs; all of them verify. */
  constructor(secrets: readonly Uint8Array[]) {
    this.#keys = secrets.map(secret => createSecretKey(secret))
  }

  sign(type: TokenType, payload: object): Promise<string> {
    const [key] = this.#keys as [KeyObject]
    return new CompactSign(new TextEncoder().encode(JSON.stringify(payload)))
      .setProtectedHeader({ alg: ALGORITHM, typ: type })
      .sign(key)
  }

  /** The payload of a token of this type, or why it is not one. Does not check whether it has expired. */
  async verify(type: TokenType, token: string): Promise<Record<string, unknown> | VerifyFailure> {
    let failure: VerifyFailure = 'signature'
    for (const key of this.#keys) {
      try {
        // The token's own header names the algorithm too, but an attacker may have written it.
        const verified = await compactVerify(token, key, { algorithms: [ALGORITHM] })
        return verified.protectedHeader.typ === type ? parse(verified.payload) : 'malformed'
      } catch (error) {
        failure = failureOf(error)
      }
    }
    return failure
  }
}

function parse(payload: Uint8Array): Record<string, unknown> | VerifyFailure {
  const value: unknown = JSON.parse(new TextDecoder().decode(payload))
  return typeof value === 'object' && value !== null ? { ...value } : 'malformed'
}

function failureOf(error: unknown): VerifyFailure {
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'signature'
  if (error instanceof errors.JOSEAlgNotAllowed) return 'algorithm'
  if (error instanceof errors.JOSEError || error instanceof SyntaxError) return 'malformed'
  throw error
}

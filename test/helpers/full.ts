/**
 * A full disk for some processes, which needs neither a disk nor root: the system lets them write nothing beyond so many
 * bytes of any file (RLIMIT_FSIZE). Their writes fail where those to a full disk would, in the middle of a write
 * if it comes to that. Only the error is another one: EFBIG in place of ENOSPC.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { requireProgram } from '../setup/needs.js'

const run = promisify(execFile)

/**
 * Limits the files of a running process, and so of those that it starts from now on.
 * @param user whom it runs as: another user may not, not even root in a container.
 */
export async function limitFiles(
  pid: number,
  bytes: number | 'unlimited',
  user: { uid?: number; gid?: number } = {},
): Promise<void> {
  await run(requireProgram('prlimit'), ['--pid', `${pid}`, `--fsize=${bytes}:`], user)
}

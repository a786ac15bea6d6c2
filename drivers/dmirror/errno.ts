/** Error numbers as a control interface returns them: negative. Those of Linux on x86. */
import { isFarfaultError } from '../../sdk/gmem/index.ts';

export const EPERM = -1;
export const ENOENT = -2;
export const EIO = -5;
export const ENOMEM = -12;
export const EFAULT = -14;
export const EBUSY = -16;
export const EINVAL = -22;
export const EOPNOTSUPP = -95;

/** What an error of the machine is to the caller of a command; what is not one of these is a bug, and is thrown. */
export function errno(error: unknown): number {
  if (!isFarfaultError(error)) throw error;
  switch (error.code) {
    case 'EPERM':
      return EPERM;
    case 'EIO':
      return EIO;
    case 'ENOMEM':
      return ENOMEM;
    case 'EFAULT':
      return EFAULT;
    case 'EBUSY':
      return EBUSY;
    case 'EOPNOTSUPP':
      return EOPNOTSUPP;
    case 'EINVAL':
      return EINVAL;
    default:
      throw error;
  }
}

//! Access to the values of a tensor on the CPU: a read guard of f32 and an in-place update.
//!
//! Left out: reading other dtypes, and other devices; an op that meets one runs its reference instead.

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Storage, StorageRef, Tensor, bail};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

/// True where the CPU kernels apply: f32 on the CPU.
pub fn fused(tensor: &Tensor) -> bool {
    matches!(tensor.device(), Device::Cpu) && tensor.dtype() == DType::F32
}

/// True for 16-bit values on the CPU, where candle has no bf16 product and sums in 16 bits: an op widens them, runs its
/// f32 kernel, and rounds its result once.
pub(crate) fn narrow(tensor: &Tensor) -> bool {
    matches!(tensor.device(), Device::Cpu) && matches!(tensor.dtype(), DType::BF16 | DType::F16)
}

/// The tensor in f32; itself where it is.
pub(crate) fn wide(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_dtype(DType::F32)
}

/// The values of a contiguous f32 tensor on the CPU, locked for reading while the view lives.
pub struct View<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for View<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => &[], // `view` refuses everything else
        }
    }
}

/// Borrows the values of `tensor`.
/// Errors: not f32, not on the CPU, not contiguous.
pub fn view(tensor: &Tensor) -> Result<View<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(_)) = &*storage else {
        bail!("view: f32 on the CPU needed, got {:?} on {:?}", tensor.dtype(), tensor.device())
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(View { storage, range: start..end }),
        None => bail!("view: a contiguous tensor is needed, got strides {:?}", layout.stride()),
    }
}

/// A type whose values an update can change in place.
pub(crate) trait Element: Sized {
    /// The values of a storage of this type; None for one of another.
    fn values(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! element {
    ($($type:ty = $variant:ident),*) => {
        $(impl Element for $type {
            fn values(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(values) => Some(values),
                    _ => None,
                }
            }
        })*
    };
}

element!(f32 = F32, half::bf16 = BF16, half::f16 = F16, u8 = U8);

struct Update<F, T> {
    name: &'static str,
    function: RefCell<Option<F>>,
    element: PhantomData<T>,
}

impl<T: Element, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Update<F, T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some(values) = T::values(storage) else { bail!("{}: {} needed", self.name, std::any::type_name::<T>()) };
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("{}: a contiguous tensor is needed, got strides {:?}", self.name, layout.stride())
        };
        match self.function.borrow_mut().take() {
            Some(function) => function(&mut values[start..end]),
            None => bail!("{}: an update runs once", self.name),
        }
    }
}

/// Changes the values of a contiguous f32 tensor on the CPU in place; every tensor that shares its storage sees it.
/// The function must not touch `tensor` itself: its storage is locked.
pub fn update(name: &'static str, tensor: &Tensor, function: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    update_as(name, tensor, function)
}

/// [`update`] of a tensor of another type.
pub(crate) fn update_as<T: Element>(
    name: &'static str,
    tensor: &Tensor,
    function: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<()> {
    tensor.inplace_op1(&Update { name, function: RefCell::new(Some(function)), element: PhantomData })
}

/// A pointer that tasks share to write disjoint parts of one buffer.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut(pub *mut f32);
// SAFETY: whoever builds one states why the parts that the tasks write are disjoint.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// The pointer, `offset` elements on. A method, so that closures capture the wrapper and not its raw field.
    ///
    /// # Safety
    /// `offset` must lie inside the buffer.
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: promised by the caller.
        unsafe { self.0.add(offset) }
    }
}

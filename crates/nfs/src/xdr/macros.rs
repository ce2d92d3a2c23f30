//! The types of a protocol as tables: a structure is its fields in order, an enumeration its
//! numbers, a union its discriminants and arms.

/// A structure (RFC 4506 4.14).
macro_rules! xdr_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        $vis struct $name { $($(#[$field_meta])* pub $field: $type,)* }
        impl $crate::xdr::Xdr for $name {
            fn read(reader: &mut $crate::xdr::Reader) -> Result<Self, $crate::xdr::XdrError> {
                Ok(Self { $($field: <$type as $crate::xdr::Xdr>::read(reader)?,)* })
            }
            fn write(&self, writer: &mut $crate::xdr::Writer) {
                $($crate::xdr::Xdr::write(&self.$field, writer);)*
            }
        }
    };
}

/// An enumeration (RFC 4506 4.3), with every number that it has.
macro_rules! xdr_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$arm_meta:meta])* $arm:ident = $number:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        $vis enum $name { $($(#[$arm_meta])* $arm = $number,)* }
        impl $name {
            /// Every one, in the order of the table.
            // Not every table is walked.
            #[allow(dead_code)]
            $vis const ALL: &'static [Self] = &[$(Self::$arm,)*];
            /// The number on the wire.
            #[must_use]
            $vis const fn code(self) -> u32 {
                self as u32
            }
            /// None for a number that the table has not.
            #[must_use]
            $vis const fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($number => Some(Self::$arm),)*
                    _ => None,
                }
            }
        }
        impl $crate::xdr::Xdr for $name {
            fn read(reader: &mut $crate::xdr::Reader) -> Result<Self, $crate::xdr::XdrError> {
                Self::from_code(reader.u32()?).ok_or($crate::xdr::XdrError::BadValue)
            }
            fn write(&self, writer: &mut $crate::xdr::Writer) {
                writer.u32(self.code());
            }
        }
    };
}

/// A discriminated union (RFC 4506 4.15): `Arm = number` or `Arm(field: Type) = number`.
macro_rules! xdr_union {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$arm_meta:meta])* $arm:ident $(($field:ident: $type:ty))? = $number:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        $vis enum $name { $($(#[$arm_meta])* $arm $(($type))?,)* }
        impl $crate::xdr::Xdr for $name {
            fn read(reader: &mut $crate::xdr::Reader) -> Result<Self, $crate::xdr::XdrError> {
                Ok(match reader.u32()? {
                    $($number => Self::$arm $((<$type as $crate::xdr::Xdr>::read(reader)?))?,)*
                    _ => return Err($crate::xdr::XdrError::BadValue),
                })
            }
            fn write(&self, writer: &mut $crate::xdr::Writer) {
                match self {
                    $(Self::$arm $(($field))? => {
                        writer.u32($number);
                        $($crate::xdr::Xdr::write($field, writer);)?
                    })*
                }
            }
        }
    };
}

/// Opaque data of variable length with the limit of its type.
macro_rules! xdr_opaque {
    ($(#[$meta:meta])* pub struct $name:ident($bytes_max:expr);) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub bytes::Bytes);
        impl $crate::xdr::Xdr for $name {
            fn read(reader: &mut $crate::xdr::Reader) -> Result<Self, $crate::xdr::XdrError> {
                reader.opaque($bytes_max).map(Self)
            }
            fn write(&self, writer: &mut $crate::xdr::Writer) {
                writer.payload(&self.0);
            }
        }
    };
}

pub(crate) use {xdr_enum, xdr_opaque, xdr_struct, xdr_union};
